_base_ = ['./panet_r50_fpn_syncbn_160k_coco.py', '../_base_/models/resnext101_64x4d.py']

model = dict(backbone=_base_._resnext101_64x4d)
