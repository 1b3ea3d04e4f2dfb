# CIAE that trains from scratch in minutes on a CPU: ResNet-18, 64 channels in neck and heads.
_base_ = './ciae_r50_fpn.py'

channels = 64
model = dict(
    backbone=dict(depth=18, frozen_stages=-1, norm_eval=False, init_cfg=None),
    neck=dict(in_channels=[64, 128, 256, 512], out_channels=channels),
    bbox_head=dict(
        in_channels=channels,
        feat_channels=channels,
        # Half the usual ranges: objects are small.
        regress_ranges=((-1, 32), (32, 64), (64, 128), (128, 256), (256, 1e8)),
        norm_cfg=dict(type='GN', num_groups=8, requires_grad=True),
    ),
    semantic_head=dict(
        in_channels=channels,
        inner_channels=channels,
        # So few iterations that with the paper's 0.9999 the memory would stay what it was at random.
        momentum=0.99,
        norm_cfg=dict(num_groups=8),
    ),
    test_cfg=dict(nms_pre=500),
)
