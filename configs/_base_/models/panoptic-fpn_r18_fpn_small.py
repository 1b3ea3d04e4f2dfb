# Panoptic FPN that trains from scratch in minutes on a CPU: ResNet-18, 64 channels in neck and heads.
_base_ = './panoptic-fpn_r50_fpn.py'

channels = 64
model = dict(
    backbone=dict(depth=18, frozen_stages=-1, norm_eval=False, init_cfg=None),
    neck=dict(in_channels=[64, 128, 256, 512], out_channels=channels),
    rpn_head=dict(in_channels=channels, feat_channels=channels),
    roi_head=dict(
        # Two samples a bin: mmcv's adaptive number (0) takes a third of the training time on a CPU.
        bbox_roi_extractor=dict(out_channels=channels, roi_layer=dict(sampling_ratio=2)),
        bbox_head=dict(in_channels=channels, fc_out_channels=256),
        mask_roi_extractor=dict(out_channels=channels, roi_layer=dict(sampling_ratio=2)),
        mask_head=dict(num_convs=2, in_channels=channels, conv_out_channels=channels),
    ),
    semantic_head=dict(in_channels=channels, inner_channels=channels),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=500, max_per_img=200),
        rcnn=dict(sampler=dict(num=64)),
    ),
    test_cfg=dict(
        rpn=dict(nms_pre=500, max_per_img=200),
        # Class by class: a small object that lies on a larger one has to survive.
        rcnn=dict(nms=dict(type='nms', iou_threshold=0.5, class_agnostic=False)),
    ),
    panoptic_fusion_head=dict(score_thr=0.5),
)

del channels
