# Unverified: the paper's values for Cityscapes could not be read and the released code has none. The schedule and the
# crops are Panoptic FPN's, the learning rate is the one on COCO; the weight of the stuff loss, the overlap threshold
# and the stuff area are guesses.
_base_ = [
    '../_base_/models/spatialflow_r50_fpn.py',
    '../_base_/datasets/cityscapes_panoptic.py',
    '../_base_/default_runtime.py',
]

num_things_classes = 8
num_stuff_classes = 11
model = dict(
    bbox_head=dict(num_classes=num_things_classes),
    mask_head=dict(num_classes=num_things_classes),
    semantic_head=dict(
        num_things_classes=num_things_classes,
        num_stuff_classes=num_stuff_classes,
        loss_seg=dict(loss_weight=1.0),  # unverified
    ),
    panoptic_fusion_head=dict(
        num_things_classes=num_things_classes,
        num_stuff_classes=num_stuff_classes,
        overlap_thr=0.5,  # unverified
        stuff_area_limit=2048,  # unverified
    ),
)

train_cfg = dict(type='IterBasedTrainLoop', max_iters=65000, val_interval=5000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', begin=0, end=65000, by_epoch=False, milestones=[40000, 55000], gamma=0.1),
]
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.005, momentum=0.9, weight_decay=0.0001),  # unverified
)
auto_scale_lr = dict(enable=False, base_batch_size=8)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=5000))
log_processor = dict(by_epoch=False)

del num_things_classes, num_stuff_classes
