_base_ = [
    '../_base_/models/ciae_r50_fpn.py',
    '../_base_/datasets/coco_panoptic.py',
    '../_base_/schedules/schedule_ciae_90k.py',
    '../_base_/iteration_runtime.py',
]

train_dataloader = dict(
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(filter_cfg=dict(filter_empty_gt=False)),  # all of train2017, stuff-only images too
)
