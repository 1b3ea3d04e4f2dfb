_base_ = ['../mask-rcnn_r18_fpn_shapes.py', '../../_base_/models/panet_parts.py']

model = _base_._bottom_up
