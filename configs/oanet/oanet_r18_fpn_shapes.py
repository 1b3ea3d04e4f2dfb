_base_ = ['../panoptic_fpn/panoptic-fpn_r18_fpn_shapes.py', '../_base_/models/oanet_parts_small.py']

model = _base_._oanet
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
