_base_ = ['./panet_r50-caffe_fpn_gn_180k_coco.py', '../_base_/models/panet_release_conventions.py']

model = _base_._release_conventions
model.roi_head.mask_roi_extractor = dict(roi_layer=dict(aligned=False))
