_base_ = ['./spatialflow_r50_fpn_cityscapes.py', '../_base_/models/resnet101.py']

model = dict(backbone=_base_._resnet101)
