# With a single thing class nothing can conflict by class, so there is no ranking module: OANet's network, ordered by
# detection score.
_base_ = '../panoptic_fpn/panoptic-fpn_r18_fpn_nuclei.py'

num_things_classes = 1
num_stuff_classes = 1
model = dict(
    type='OANet',
    semantic_head=dict(
        _delete_=True,
        type='OANetStuffHead',
        num_things_classes=num_things_classes,
        num_stuff_classes=num_stuff_classes,
        in_channels=64,
        inner_channels=32,
        norm_cfg=dict(type='GN', num_groups=8, requires_grad=True),
        loss_seg=dict(type='CrossEntropyLoss', ignore_index=255, avg_non_ignore=True, loss_weight=0.5),
    ),
)
