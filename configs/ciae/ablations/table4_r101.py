_base_ = ['../ciae_r50_fpn_90k_coco.py', '../../_base_/models/resnet101.py']

model = dict(backbone=_base_._resnet101)
