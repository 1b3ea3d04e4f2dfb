# SpatialFlow that trains from scratch in minutes on a CPU: ResNet-18, 32 channels in neck and heads. Images and objects
# are small, so everything is one level finer: P2 to P5 with half the usual anchors.
_base_ = './spatialflow_r50_fpn.py'

channels = 32
norm_cfg = dict(type='GN', num_groups=8, requires_grad=True)
model = dict(
    backbone=dict(depth=18, frozen_stages=-1, norm_eval=False, init_cfg=None),
    neck=dict(in_channels=[64, 128, 256, 512], out_channels=channels, start_level=0, add_extra_convs=False, num_outs=4),
    bbox_head=dict(
        in_channels=channels,
        feat_channels=channels,
        anchor_generator=dict(strides=[4, 8, 16, 32]),
        # From scratch, a few epochs: sub-networks with a norm, and boxes that weigh more than in RetinaNet.
        norm_cfg=norm_cfg,
        bbox_coder=dict(target_stds=[0.1, 0.1, 0.2, 0.2]),
        # Drawn with RetinaNet's 0.01, features of so few channels would fade away from stage to stage.
        init_cfg=dict(
            type='Kaiming',
            layer='Conv2d',
            override=[
                dict(type='Normal', name='retina_cls', std=0.01, bias_prob=0.01),
                dict(type='Normal', name='retina_reg', std=0.01),
            ],
        ),
    ),
    # Two samples a bin: mmcv's adaptive number (0) takes a third of the training time on a CPU.
    mask_roi_extractor=dict(out_channels=channels, featmap_strides=[4, 8, 16], roi_layer=dict(sampling_ratio=2)),
    mask_head=dict(num_convs=2, in_channels=channels, conv_out_channels=channels),
    semantic_head=dict(
        in_channels=channels, inner_channels=channels, norm_cfg=norm_cfg, loss_seg=dict(loss_weight=1.0)
    ),
    train_cfg=dict(proposal=dict(nms_pre=500)),
    test_cfg=dict(nms_pre=500),
)

del channels, norm_cfg
