# Twice schedule_shapes.py.
_base_ = './schedule_shapes.py'

train_cfg = dict(max_epochs=6, val_interval=2)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=6)
auto_scale_lr = dict(base_batch_size=8)
