# PANet as in the paper: batch norm over all processes in the whole network, nothing frozen.
_base_ = ['./panet-baseline_r50_fpn.py', './panet_parts_syncbn.py']

model = dict(
    backbone=dict(frozen_stages=-1, norm_cfg=_base_._norm_cfg, norm_eval=False),
    **_base_._panet,
)
