_base_ = './table3_mst-mbn_det.py'

model = _base_._bottom_up
