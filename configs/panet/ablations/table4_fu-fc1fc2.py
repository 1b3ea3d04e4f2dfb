_base_ = './table3_mst-mbn-afp.py'

model = dict(roi_head=dict(bbox_head=dict(fuse_stage='pre'), mask_head=dict(fuse_stage='pre')))
