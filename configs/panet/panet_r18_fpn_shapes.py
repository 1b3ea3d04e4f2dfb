_base_ = './ablations/shapes_bpa-afp-ff.py'

model = dict(roi_head=dict(bbox_head=dict(num_shared_convs=4, num_shared_fcs=1, conv_out_channels=64)))
