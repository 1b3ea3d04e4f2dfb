_base_ = '../ciae_r50_fpn_90k_coco.py'

# Without boxes in training and in inference.
model = dict(semantic_head=dict(loss=dict(filter_scale=None)), panoptic_fusion_head=dict(box_scale=None))
