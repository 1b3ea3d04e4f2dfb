_base_ = './panet-det_r50-caffe_fpn_gn_90k_coco.py'

model = dict(roi_head=dict(bbox_head=dict(num_shared_convs=0, num_shared_fcs=2, fc_norm_cfg=_base_._norm_cfg)))
