# Twice schedule_shapes.py.
_base_ = './schedule_shapes.py'

max_epochs = 6
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=max_epochs)
auto_scale_lr = dict(base_batch_size=8)
