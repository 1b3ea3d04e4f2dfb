_base_ = '../oanet_r18_fpn_shapes.py'

model = dict(panoptic_fusion_head=dict(ranking=dict(kernel='3x3')))
