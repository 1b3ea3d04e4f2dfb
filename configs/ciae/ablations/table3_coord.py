_base_ = '../ciae_r50_fpn_90k_coco.py'

model = dict(bbox_head=dict(box_embedding_dims=0), semantic_head=dict(box_embedding_dims=0))
