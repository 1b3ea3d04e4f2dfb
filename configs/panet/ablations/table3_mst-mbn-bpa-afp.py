_base_ = './table3_mst-mbn-bpa.py'

model = _base_._adaptive_pooling
