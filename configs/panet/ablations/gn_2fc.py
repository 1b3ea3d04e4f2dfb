_base_ = '../panet_r50-caffe_fpn_gn_180k_coco.py'

model = dict(roi_head=dict(bbox_head=dict(num_shared_convs=0, num_shared_fcs=2, fc_norm_cfg=_base_._norm_cfg)))
