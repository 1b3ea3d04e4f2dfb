_base_ = '../ciae_r18_fpn_shapes.py'

model = dict(semantic_head=dict(loss=dict(filter_scale=None)))
