# OANet. https://arxiv.org/abs/1903.05027
_base_ = './panoptic-fpn_r50_fpn.py'

num_things_classes = 80
num_stuff_classes = 53

model = dict(
    type='OANet',
    share='neck',
    stuff_input='fpn',
    semantic_head=dict(
        _delete_=True,
        type='OANetStuffHead',
        num_things_classes=num_things_classes,
        num_stuff_classes=num_stuff_classes,
        in_channels=256,
        inner_channels=128,
        norm_cfg=dict(type='GN', num_groups=32, requires_grad=True),
        loss_seg=dict(type='CrossEntropyLoss', ignore_index=255, avg_non_ignore=True, loss_weight=0.25),
    ),
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
