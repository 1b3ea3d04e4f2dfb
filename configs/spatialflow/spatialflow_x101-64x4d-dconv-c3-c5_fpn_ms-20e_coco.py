_base_ = ['./spatialflow_r101-dconv-c3-c5_fpn_ms-20e_coco.py', '../_base_/models/resnext101_64x4d.py']

model = dict(backbone=_base_._resnext101_64x4d)
