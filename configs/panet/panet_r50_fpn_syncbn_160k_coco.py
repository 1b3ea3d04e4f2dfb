_base_ = [
    '../_base_/models/panet_r50_fpn_syncbn.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/schedule_160k.py',
    '../_base_/iteration_runtime.py',
]

train_pipeline, test_pipeline = _base_.train_pipeline, _base_.test_pipeline
train_pipeline[2] = dict(type='Resize', scale=(1000, 800), keep_ratio=True)
test_pipeline[1] = dict(type='Resize', scale=(1000, 800), keep_ratio=True)
train_dataloader = dict(sampler=dict(type='InfiniteSampler'), dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
