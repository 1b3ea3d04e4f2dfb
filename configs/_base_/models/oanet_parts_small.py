# OANet's parts on the small Panoptic FPN: a config takes this file as a further base, and sets model = _base_._oanet.
_oanet = dict(
    type='OANet',
    semantic_head=dict(
        type='OANetStuffHead', inner_channels=32, norm_cfg=dict(num_groups=8), loss_seg=dict(avg_non_ignore=True)
    ),
    panoptic_fusion_head=dict(
        type='RankingFusion',
        ranking=dict(type='SpatialRankingModule', kernel='1x7+7x1'),
        score_thr=0.5,
        overlap_thr=0.5,
    ),
)
