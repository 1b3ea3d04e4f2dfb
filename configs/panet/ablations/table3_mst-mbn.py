_base_ = './table3_mst.py'

model = _base_._mbn
