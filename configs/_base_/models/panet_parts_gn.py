# PANet's parts as released: GN, the bottom-up convolutions with a bias all the same, a ReLU on the fc branch's map.
_base_ = './panet_parts.py'

_norm_cfg = dict(type='GN', num_groups=32, requires_grad=True)
_panet = dict(
    neck=dict(norm_cfg=_norm_cfg, bottom_up_bias=True),
    roi_head=dict(bbox_head=dict(norm_cfg=_norm_cfg), mask_head=dict(norm_cfg=_norm_cfg, fc_relu=True)),
)
