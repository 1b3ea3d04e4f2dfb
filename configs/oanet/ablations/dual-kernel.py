_base_ = '../oanet_r50_fpn_100k_coco.py'

# No row of the paper: the two-branch form of the large kernel, 1x7 after 7x1 added to 7x1 after 1x7.
model = dict(panoptic_fusion_head=dict(ranking=dict(dual=True)))
