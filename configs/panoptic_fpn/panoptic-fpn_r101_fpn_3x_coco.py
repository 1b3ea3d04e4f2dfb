_base_ = [
    '../_base_/models/panoptic-fpn_r50_fpn.py',
    '../_base_/models/resnet101.py',
    '../_base_/datasets/coco_panoptic.py',
    '../_base_/schedules/schedule_3x.py',
    '../_base_/default_runtime.py',
]

model = dict(backbone=_base_._resnet101)

# mmdet's 3x schedule goes with scale jitter.
train_dataloader = dict(
    dataset=dict(
        pipeline=dict(
            resize=dict(_delete_=True, type='RandomResize', scale=[(1333, 640), (1333, 800)], keep_ratio=True)
        )
    )
)
