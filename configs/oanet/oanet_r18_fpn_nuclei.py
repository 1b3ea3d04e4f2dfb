# With a single thing class nothing can conflict by class, so there is no ranking module: OANet's network, ordered by
# detection score.
_base_ = '../panoptic_fpn/panoptic-fpn_r18_fpn_nuclei.py'

model = dict(
    type='OANet',
    semantic_head=dict(
        type='OANetStuffHead', inner_channels=32, norm_cfg=dict(num_groups=8), loss_seg=dict(avg_non_ignore=True)
    ),
)
