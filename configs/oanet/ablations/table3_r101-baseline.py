_base_ = ['./table3_r50-baseline.py', '../../_base_/models/resnet101.py']

model = dict(backbone=_base_._resnet101)
