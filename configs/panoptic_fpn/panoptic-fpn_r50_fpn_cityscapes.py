_base_ = [
    '../_base_/models/panoptic-fpn_r50_fpn.py',
    '../_base_/datasets/cityscapes_panoptic.py',
    '../_base_/iteration_runtime.py',
]

num_things_classes = 8
num_stuff_classes = 11
model = dict(
    roi_head=dict(bbox_head=dict(num_classes=num_things_classes), mask_head=dict(num_classes=num_things_classes)),
    semantic_head=dict(
        num_things_classes=num_things_classes,
        num_stuff_classes=num_stuff_classes,
        loss_seg=dict(loss_weight=1.0),
    ),
    panoptic_fusion_head=dict(
        num_things_classes=num_things_classes, num_stuff_classes=num_stuff_classes, stuff_area_limit=2048
    ),
)

# The paper's schedule (section 5.1): 65k iterations of 32 crops, dropped at 40k and 55k. It is written for 8 GPUs with
# 4 images each; --auto-scale-lr adapts the learning rate to fewer.
train_cfg = dict(type='IterBasedTrainLoop', max_iters=65000, val_interval=5000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=1000),
    dict(type='MultiStepLR', begin=0, end=65000, by_epoch=False, milestones=[40000, 55000], gamma=0.1),
]
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.0001))
auto_scale_lr = dict(enable=False, base_batch_size=32)
train_dataloader = dict(batch_size=4)
default_hooks = dict(checkpoint=dict(interval=5000))

del num_things_classes, num_stuff_classes
