_base_ = '../oanet_r50_fpn_100k_coco.py'

model = dict(panoptic_fusion_head=dict(ranking=dict(kernel='1x1')))
