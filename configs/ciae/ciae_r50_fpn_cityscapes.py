# An extension: the paper has no such run. Length, batch and crops are Panoptic FPN's, the learning rate is the one for
# COCO.
_base_ = [
    '../_base_/models/ciae_r50_fpn.py',
    '../_base_/datasets/cityscapes_panoptic.py',
    '../_base_/schedules/schedule_ciae_90k.py',
    '../_base_/iteration_runtime.py',
]

num_things_classes = 8
num_stuff_classes = 11
model = dict(
    bbox_head=dict(num_classes=num_things_classes),
    semantic_head=dict(num_things_classes=num_things_classes, num_stuff_classes=num_stuff_classes),
    panoptic_fusion_head=dict(
        num_things_classes=num_things_classes, num_stuff_classes=num_stuff_classes, stuff_area_limit=2048
    ),
)

train_cfg = dict(max_iters=65000, val_interval=5000)
param_scheduler = _base_.param_scheduler
param_scheduler[0].update(end=1000)
param_scheduler[1].update(end=65000, milestones=[40000, 55000])
train_dataloader = dict(batch_size=4)
auto_scale_lr = dict(base_batch_size=32)
default_hooks = dict(checkpoint=dict(interval=5000))

del num_things_classes, num_stuff_classes
