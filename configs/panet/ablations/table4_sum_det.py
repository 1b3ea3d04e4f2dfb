_base_ = './table3_mst-mbn-afp_det.py'

model = dict(roi_head=dict(bbox_head=dict(fuse='sum')))
