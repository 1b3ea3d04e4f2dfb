_base_ = './table3_mst-mbn-bpa-afp.py'

model = dict(roi_head=dict(mask_head=dict(fc_fusion='sum')))
