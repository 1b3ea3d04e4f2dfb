# SpatialFlow that trains from scratch in minutes on a CPU: ResNet-18, 64 channels in neck and heads.
_base_ = './spatialflow_r50_fpn.py'

channels = 64
model = dict(
    backbone=dict(depth=18, frozen_stages=-1, norm_eval=False, init_cfg=None),
    neck=dict(in_channels=[64, 128, 256, 512], out_channels=channels),
    bbox_head=dict(
        in_channels=channels,
        feat_channels=channels,
        # Half the usual anchors: objects are small.
        anchor_generator=dict(octave_base_scale=2),
    ),
    # Two samples a bin: mmcv's adaptive number (0) takes a third of the training time on a CPU.
    mask_roi_extractor=dict(out_channels=channels, roi_layer=dict(sampling_ratio=2)),
    mask_head=dict(num_convs=2, in_channels=channels, conv_out_channels=channels),
    semantic_head=dict(in_channels=channels, inner_channels=channels),
    train_cfg=dict(proposal=dict(nms_pre=500)),
    test_cfg=dict(nms_pre=500),
)
