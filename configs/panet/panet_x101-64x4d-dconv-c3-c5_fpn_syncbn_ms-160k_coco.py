_base_ = ['./panet_r50-dconv-c3-c5_fpn_syncbn_ms-160k_coco.py', '../_base_/models/resnext101_64x4d.py']

model = dict(backbone=_base_._resnext101_64x4d)
