_base_ = './shapes_bpa-afp.py'

model = dict(roi_head=dict(mask_head=dict(fc_fusion='sum')))
