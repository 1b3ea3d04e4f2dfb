# SpatialFlow whose instances are ordered by OANet's ranking module; no boxes are filled.
_base_ = '../spatialflow/spatialflow_r18_fpn_shapes.py'

model = dict(
    panoptic_fusion_head=dict(
        _delete_=True,
        type='RankingFusion',
        ranking=dict(type='SpatialRankingModule', kernel='1x7+7x1'),
        num_things_classes=7,
        num_stuff_classes=6,
        # OANet's: SpatialFlow's 0.37 lets through objects that are detected as two classes, see README.md.
        score_thr=0.5,
        overlap_thr=0.5,
        stuff_area_limit=256,
    ),
)
# Whole objects, for boxes and masks too: SpatialFlow trains both on what is visible, and masks of that never overlap.
train_dataloader = dict(dataset=dict(inst_ann_file='annotations/instances_train.json'))
val_dataloader = dict(dataset=dict(inst_ann_file='annotations/instances_val.json'))
test_dataloader = val_dataloader
# A few hundred weights, from scratch in a few epochs: ours.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'panoptic_fusion_head.ranking': dict(lr_mult=10.0)}))
