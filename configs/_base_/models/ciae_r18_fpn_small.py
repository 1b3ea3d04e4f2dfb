# CIAE that trains from scratch in minutes on a CPU: ResNet-18, 32 channels in neck and heads. Images and objects are
# small, so proposals come from one level finer, P2 to P6, with the ranges that go with these.
_base_ = './ciae_r50_fpn.py'

channels = 32
norm_cfg = dict(type='GN', num_groups=8, requires_grad=True)
model = dict(
    backbone=dict(depth=18, frozen_stages=-1, norm_eval=False, init_cfg=None),
    neck=dict(in_channels=[64, 128, 256, 512], out_channels=channels, num_outs=5),
    bbox_head=dict(
        in_channels=channels,
        feat_channels=channels,
        strides=[4, 8, 16, 32, 64],
        regress_ranges=((-1, 16), (16, 32), (32, 64), (64, 128), (128, 1e8)),
        norm_cfg=norm_cfg,
        # Boxes start about as large as objects are: from exp(0) = 1 pixel the way is long.
        init_cfg=dict(
            type='Normal',
            layer='Conv2d',
            std=0.01,
            override=[
                dict(type='Normal', name='conv_cls', std=0.01, bias_prob=0.01),
                dict(type='Normal', name='conv_reg', std=0.01, bias=2.5),
            ],
        ),
    ),
    semantic_head=dict(
        in_channels=channels,
        inner_channels=64,
        # So few iterations that with the paper's 0.9999 the memory would stay what it was at random.
        momentum=0.99,
        norm_cfg=norm_cfg,
    ),
    test_cfg=dict(nms_pre=500),
)

del channels, norm_cfg
