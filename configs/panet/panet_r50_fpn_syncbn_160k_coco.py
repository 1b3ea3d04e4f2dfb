_base_ = [
    '../_base_/models/panet_r50_fpn_syncbn.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/schedule_160k.py',
    '../_base_/iteration_runtime.py',
]

train_dataloader = dict(
    sampler=dict(type='InfiniteSampler'), dataset=dict(pipeline=dict(resize=dict(scale=(1000, 800))))
)
val_dataloader = dict(dataset=dict(pipeline=dict(resize=dict(scale=(1000, 800)))))
test_dataloader = val_dataloader
