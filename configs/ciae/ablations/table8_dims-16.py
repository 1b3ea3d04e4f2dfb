_base_ = '../ciae_r50_fpn_90k_coco.py'

model = dict(bbox_head=dict(box_embedding_dims=16), semantic_head=dict(embedding_dims=16, box_embedding_dims=16))
