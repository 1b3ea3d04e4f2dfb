_base_ = './table3_mst-mbn.py'

model = _base_._adaptive_pooling
