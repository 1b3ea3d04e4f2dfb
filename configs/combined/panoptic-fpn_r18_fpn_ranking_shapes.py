# Panoptic FPN whose instances are ordered by OANet's ranking module; everything else is Panoptic FPN's.
_base_ = '../panoptic_fpn/panoptic-fpn_r18_fpn_shapes.py'

model = dict(
    panoptic_fusion_head=dict(type='RankingFusion', ranking=dict(type='SpatialRankingModule', kernel='1x7+7x1')),
)
train_dataloader = dict(dataset=dict(inst_ann_file='annotations/instances_train.json'))
val_dataloader = dict(dataset=dict(inst_ann_file='annotations/instances_val.json'))
test_dataloader = val_dataloader
# A few hundred weights, from scratch in a few epochs: ours.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'panoptic_fusion_head.ranking': dict(lr_mult=10.0)}))
