# PANet's parts as in the paper: batch norm over all processes, after every new convolution and fully-connected layer of
# neck and heads (section 4.2). RPN and deconvolution are not new; what gives results (classes, boxes, masks) has none.
_base_ = './panet_parts.py'

_norm_cfg = dict(type='SyncBN', requires_grad=True)
_panet = dict(
    neck=dict(norm_cfg=_norm_cfg),
    roi_head=dict(
        bbox_head=dict(norm_cfg=_norm_cfg, fc_norm_cfg=_norm_cfg), mask_head=dict(norm_cfg=_norm_cfg, fc_relu=False)
    ),
)

# Multi-GPU batch norm (MBN) for the baseline, whose box head is the usual one, with norms behind its layers.
_mbn = dict(
    backbone=dict(frozen_stages=-1, norm_cfg=_norm_cfg, norm_eval=False),
    neck=dict(norm_cfg=_norm_cfg),
    roi_head=dict(
        bbox_head=dict(
            type='AdaptivePoolingBBoxHead',
            num_shared_convs=0,
            num_shared_fcs=2,
            num_levels=1,
            fc_norm_cfg=_norm_cfg,
        ),
        mask_head=dict(norm_cfg=_norm_cfg),
    ),
)
