_base_ = './table9_baseline.py'

model = _base_._mbn
