# Does the heavier head gain with a norm behind its layers, as it has in the paper?
_base_ = '../panet_r18_fpn_shapes.py'

model = dict(roi_head=dict(bbox_head=dict(norm_cfg=dict(type='GN', num_groups=8))))
