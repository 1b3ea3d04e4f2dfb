_base_ = [
    '../_base_/models/panet_r50_fpn_gn.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/schedule_90k.py',
    '../_base_/iteration_runtime.py',
]

model = _base_.boxes_only
# 1200 is listed twice in the released config too.
scales = [(1400, 1200), (1400, 1200), (1400, 1000), (1400, 800), (1400, 600), (1400, 400)]
train_pipeline, test_pipeline = _base_.train_pipeline, _base_.test_pipeline
train_pipeline[2] = dict(type='RandomChoiceResize', scales=scales, keep_ratio=True)
test_pipeline[1] = dict(type='Resize', scale=(1400, 1000), keep_ratio=True)
train_dataloader = dict(sampler=dict(type='InfiniteSampler'), dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
