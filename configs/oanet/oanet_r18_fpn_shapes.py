_base_ = '../panoptic_fpn/panoptic-fpn_r18_fpn_shapes.py'

num_things_classes = 7
num_stuff_classes = 6
model = dict(
    type='OANet',
    semantic_head=dict(
        _delete_=True,
        type='OANetStuffHead',
        num_things_classes=num_things_classes,
        num_stuff_classes=num_stuff_classes,
        in_channels=64,
        inner_channels=64,
        norm_cfg=dict(type='GN', num_groups=32, requires_grad=True),
        loss_seg=dict(type='CrossEntropyLoss', ignore_index=255, avg_non_ignore=True, loss_weight=0.5),
    ),
    panoptic_fusion_head=dict(
        type='RankingFusion',
        ranking=dict(type='SpatialRankingModule', kernel='1x7+7x1'),
        score_thr=0.5,
        overlap_thr=0.5,
    ),
)
# Masks that overlap: those of the panoptic PNGs do not, and the ranking module would learn nothing.
train_dataloader = dict(dataset=dict(inst_ann_file='annotations/instances_train.json'))
val_dataloader = dict(dataset=dict(inst_ann_file='annotations/instances_val.json'))
test_dataloader = val_dataloader
custom_hooks = [dict(type='PanopticCheckHook'), dict(type='RankingConflictHook')]
