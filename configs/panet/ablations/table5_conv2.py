_base_ = './table3_mst-mbn-bpa-afp-ff.py'

model = dict(roi_head=dict(mask_head=dict(fc_from='conv2')))
