_base_ = './shapes_bpa.py'

model = _base_.adaptive_pooling
