# Panoptic FPN with PANet's neck and heads whose instances are ordered by OANet's ranking module.
_base_ = ['./panoptic-fpn_r18_fpn_ranking_shapes.py', '../_base_/models/panet_parts.py']

model = _base_._panet
model.roi_head.bbox_head.update(conv_out_channels=64)
model.roi_head.mask_head.update(num_convs=4)
