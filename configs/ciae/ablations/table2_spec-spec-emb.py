_base_ = '../ciae_r50_fpn_90k_coco.py'

model = dict(semantic_head=dict(thing_categories='spec'), panoptic_fusion_head=dict(category_from='embedding'))
