_base_ = '../ciae_r50_fpn_90k_coco.py'

model = dict(semantic_head=dict(loss=dict(filter_scale=1.2)))
