# PANet's parts, for any two-stage model: a config takes this file as a further base and sets model = _base_._panet, or
# one of its steps. https://arxiv.org/abs/1803.01534
_bottom_up = dict(neck=dict(type='PAFPN'))

_adaptive_pooling = dict(
    roi_head=dict(
        bbox_roi_extractor=dict(type='AllLevelRoIExtractor'),
        bbox_head=dict(type='AdaptivePoolingBBoxHead', num_shared_convs=0, num_shared_fcs=2, num_levels=4),
        mask_roi_extractor=dict(type='AllLevelRoIExtractor'),
        mask_head=dict(type='FCFusionMaskHead', num_levels=4, fc_fusion=None),
    )
)

_panet = dict(
    neck=dict(type='PAFPN'),
    roi_head=dict(
        bbox_roi_extractor=dict(type='AllLevelRoIExtractor'),
        bbox_head=dict(type='AdaptivePoolingBBoxHead', num_shared_convs=4, num_shared_fcs=1, num_levels=4),
        mask_roi_extractor=dict(type='AllLevelRoIExtractor'),
        mask_head=dict(type='FCFusionMaskHead', num_levels=4, fc_fusion='sum', fc_from='conv3'),
    ),
)
