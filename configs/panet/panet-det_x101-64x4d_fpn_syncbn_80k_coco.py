_base_ = ['./panet-det_r50_fpn_syncbn_80k_coco.py', '../_base_/models/resnext101_64x4d.py']

model = dict(backbone=_base_._resnext101_64x4d)
