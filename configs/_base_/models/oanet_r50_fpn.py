# OANet. https://arxiv.org/abs/1903.05027
_base_ = './panoptic-fpn_r50_fpn.py'

model = dict(
    type='OANet',
    share='neck',
    stuff_input='fpn',
    # The original Mask R-CNN's (section 3.1): smooth L1, where mmdet has L1.
    rpn_head=dict(loss_bbox=dict(type='SmoothL1Loss', beta=1.0 / 9.0)),
    roi_head=dict(bbox_head=dict(loss_bbox=dict(type='SmoothL1Loss', beta=1.0))),
    semantic_head=dict(type='OANetStuffHead', loss_seg=dict(avg_non_ignore=True, loss_weight=0.25)),
    panoptic_fusion_head=dict(
        type='RankingFusion',
        ranking=dict(type='SpatialRankingModule', kernel='1x7+7x1'),
        score_thr=0.5,
        overlap_thr=0.5,
        stuff_area_limit=4900,
    ),
    # Class by class: a small object that lies on a larger one of another class has to survive.
    test_cfg=dict(rcnn=dict(nms=dict(type='nms', iou_threshold=0.5, class_agnostic=False))),
)
