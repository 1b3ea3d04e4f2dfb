_base_ = './shapes_bpa.py'

model = _base_._adaptive_pooling
