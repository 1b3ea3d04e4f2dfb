_base_ = ['./panet-det-2fc_r50-caffe_fpn_gn_90k_coco.py', '../_base_/models/panet_release_conventions.py']

model = _base_._release_conventions
