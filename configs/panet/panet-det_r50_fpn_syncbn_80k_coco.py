_base_ = [
    '../_base_/models/panet_r50_fpn_syncbn.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/schedule_80k.py',
    '../_base_/iteration_runtime.py',
]

model = _base_._boxes_only
train_dataloader = dict(
    sampler=dict(type='InfiniteSampler'), dataset=dict(pipeline=dict(resize=dict(scale=(1000, 800))))
)
val_dataloader = dict(dataset=dict(pipeline=dict(resize=dict(scale=(1000, 800)))))
test_dataloader = val_dataloader
