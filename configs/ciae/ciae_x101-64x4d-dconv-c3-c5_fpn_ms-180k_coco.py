_base_ = ['./ciae_r101-dconv-c3-c5_fpn_ms-180k_coco.py', '../_base_/models/resnext101_64x4d.py']

model = dict(backbone=_base_._resnext101_64x4d)
