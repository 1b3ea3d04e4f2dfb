_base_ = [
    '../_base_/models/ciae_r18_fpn_tiny.py',
    '../_base_/datasets/shapes_panoptic.py',
    '../_base_/schedules/schedule_shapes.py',
    '../_base_/default_runtime.py',
]
default_hooks = dict(logger=dict(interval=10))

num_things_classes = 7
num_stuff_classes = 6
model = dict(
    bbox_head=dict(num_classes=num_things_classes),
    semantic_head=dict(num_things_classes=num_things_classes, num_stuff_classes=num_stuff_classes),
    panoptic_fusion_head=dict(
        num_things_classes=num_things_classes,
        num_stuff_classes=num_stuff_classes,
        score_thr=0.22,  # this and the overlap in NMS were chosen on training images
        stuff_area_limit=256,
    ),
    test_cfg=dict(nms=dict(iou_threshold=0.4)),
)

# The factors of the box distances are five numbers: at the rate of the others they would hardly move. The rate of all
# is twice that of the other systems. About eleven minutes on two cores.
optim_wrapper = dict(optimizer=dict(lr=2e-3), paramwise_cfg=dict(custom_keys={'bbox_head.scales': dict(lr_mult=10.0)}))
train_cfg = dict(max_epochs=8, val_interval=2)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=8)

del num_things_classes, num_stuff_classes
