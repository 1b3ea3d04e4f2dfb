_base_ = './table3_mst_det.py'

model = dict(
    backbone=dict(frozen_stages=-1, norm_cfg=_base_._norm_cfg, norm_eval=False),
    neck=dict(norm_cfg=_base_._norm_cfg),
    roi_head=dict(
        # The same head, with norms on its fully-connected layers.
        bbox_head=dict(
            type='AdaptivePoolingBBoxHead',
            num_shared_convs=0,
            num_shared_fcs=2,
            num_levels=1,
            fc_norm_cfg=_base_._norm_cfg,
        ),
    ),
)
