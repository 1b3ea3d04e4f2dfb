_base_ = [
    '../_base_/models/spatialflow_r18_fpn_tiny.py',
    '../_base_/datasets/shapes_panoptic.py',
    '../_base_/schedules/schedule_shapes.py',
    '../_base_/default_runtime.py',
    '../_base_/tta/panoptic_shapes.py',
]
default_hooks = dict(logger=dict(interval=10))

num_things_classes = 7
num_stuff_classes = 6
model = dict(
    bbox_head=dict(num_classes=num_things_classes),
    mask_head=dict(num_classes=num_things_classes),
    semantic_head=dict(num_things_classes=num_things_classes, num_stuff_classes=num_stuff_classes),
    panoptic_fusion_head=dict(
        num_things_classes=num_things_classes, num_stuff_classes=num_stuff_classes, stuff_area_limit=256
    ),
)

# About eight minutes on two cores.
optim_wrapper = dict(optimizer=dict(lr=2e-3))
train_cfg = dict(max_epochs=6, val_interval=2)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=6)

del num_things_classes, num_stuff_classes
