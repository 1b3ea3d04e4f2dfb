_base_ = [
    '../_base_/models/mask-rcnn_r18_fpn_tiny.py',
    '../_base_/datasets/shapes_instance.py',
    '../_base_/schedules/schedule_shapes_6e.py',
    '../_base_/default_runtime.py',
]

default_hooks = dict(logger=dict(interval=10))
model = dict(
    roi_head=dict(
        bbox_head=dict(num_classes=7),
        mask_head=dict(num_convs=4, num_classes=7),  # four, so that the branch of PANet can start behind the third
    ),
    # PANet's heads on 64 RoIs an image would take two cores a quarter of an hour.
    train_cfg=dict(rcnn=dict(sampler=dict(num=32))),
)
