# Heads with the numbers of classes that the data has: a config takes this file as a further base, and sets
# model = _base_._two_stage or the like.
_both = dict(num_things_classes='auto', num_stuff_classes='auto')
_instances = dict(roi_head=dict(bbox_head=dict(num_classes='auto'), mask_head=dict(num_classes='auto')))
_two_stage = dict(**_instances, semantic_head=_both, panoptic_fusion_head=_both)
_spatialflow = dict(
    bbox_head=dict(num_classes='auto'),
    mask_head=dict(num_classes='auto'),
    semantic_head=_both,
    panoptic_fusion_head=_both,
)
_ciae = dict(bbox_head=dict(num_classes='auto'), semantic_head=_both, panoptic_fusion_head=_both)

del _both
