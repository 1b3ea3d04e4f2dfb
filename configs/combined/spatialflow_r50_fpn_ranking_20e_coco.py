# SpatialFlow whose instances are ordered by OANet's ranking module; no boxes are filled.
_base_ = '../spatialflow/spatialflow_r50_fpn_20e_coco.py'

model = dict(
    panoptic_fusion_head=dict(
        _delete_=True,
        type='RankingFusion',
        ranking=dict(type='SpatialRankingModule', kernel='1x7+7x1'),
        num_things_classes=80,
        num_stuff_classes=53,
        # OANet's: SpatialFlow's 0.37 lets through objects that are detected as two classes, see README.md.
        score_thr=0.5,
        overlap_thr=0.5,
        stuff_area_limit=4900,
    ),
)
# Whole objects, for boxes and masks too: SpatialFlow trains both on what is visible, and masks of that never overlap.
train_dataloader = dict(dataset=dict(inst_ann_file='annotations/instances_train2017.json'))
val_dataloader = dict(dataset=dict(inst_ann_file='annotations/instances_val2017.json'))
test_dataloader = val_dataloader
