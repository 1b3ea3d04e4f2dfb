# PANet's parts as in the paper: batch norm over all processes.
_base_ = './panet_parts.py'

_norm_cfg = dict(type='SyncBN', requires_grad=True)
_panet = dict(
    neck=dict(norm_cfg=_norm_cfg),
    roi_head=dict(bbox_head=dict(norm_cfg=_norm_cfg), mask_head=dict(norm_cfg=_norm_cfg, fc_relu=False)),
)
