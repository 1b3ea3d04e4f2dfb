_base_ = './table3_mst-mbn-afp.py'

model = dict(roi_head=dict(bbox_head=dict(fuse='sum'), mask_head=dict(fuse='sum')))
