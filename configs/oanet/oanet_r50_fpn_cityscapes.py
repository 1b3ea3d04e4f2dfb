# An extension: the paper has no run on Cityscapes. Model and ranking are OANet's, schedule and crops Panoptic FPN's.
_base_ = '../panoptic_fpn/panoptic-fpn_r50_fpn_cityscapes.py'

model = dict(
    type='OANet',
    rpn_head=dict(loss_bbox=dict(type='SmoothL1Loss', beta=1.0 / 9.0)),
    roi_head=dict(bbox_head=dict(loss_bbox=dict(type='SmoothL1Loss', beta=1.0))),
    semantic_head=dict(type='OANetStuffHead', loss_seg=dict(avg_non_ignore=True, loss_weight=0.25)),
    panoptic_fusion_head=dict(
        type='RankingFusion',
        ranking=dict(type='SpatialRankingModule', kernel='1x7+7x1'),
        score_thr=0.5,
        overlap_thr=0.5,
    ),
    test_cfg=dict(rcnn=dict(nms=dict(type='nms', iou_threshold=0.5, class_agnostic=False))),
)
# Masks that overlap, drawn from the polygons: tools/dataset_converters/cityscapes_polygons.py. Without these files,
# train on predicted masks: inst_ann_file=None here and train_input='pred' in the fusion head. In testing instances are
# what is visible, as in Cityscapes' own scores.
train_dataloader = dict(dataset=dict(inst_ann_file='gtFine/cityscapes_polygons_train.json'))
