_base_ = './table3_mst-mbn_det.py'

model = _base_.bottom_up
