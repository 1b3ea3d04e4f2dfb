# Panoptic FPN whose instances are ordered by OANet's ranking module; everything else is Panoptic FPN's.
_base_ = '../panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py'

model = dict(
    panoptic_fusion_head=dict(type='RankingFusion', ranking=dict(type='SpatialRankingModule', kernel='1x7+7x1')),
    # Class by class: a small object that lies on a larger one of another class has to survive.
    test_cfg=dict(rcnn=dict(nms=dict(type='nms', iou_threshold=0.5, class_agnostic=False))),
)
train_dataloader = dict(dataset=dict(inst_ann_file='annotations/instances_train2017.json'))
val_dataloader = dict(dataset=dict(inst_ann_file='annotations/instances_val2017.json'))
test_dataloader = val_dataloader
