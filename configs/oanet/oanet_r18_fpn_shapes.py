_base_ = '../panoptic_fpn/panoptic-fpn_r18_fpn_shapes.py'

model = dict(
    type='OANet',
    semantic_head=dict(
        type='OANetStuffHead', inner_channels=32, norm_cfg=dict(num_groups=8), loss_seg=dict(avg_non_ignore=True)
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
# A few hundred weights, from scratch in a few epochs: ours.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'panoptic_fusion_head.ranking': dict(lr_mult=10.0)}))

# About ten minutes on two cores.
train_cfg = dict(max_epochs=8, val_interval=2)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=8, convert_to_iter_based=True),
]
