# About a quarter of an hour on two cores.
_base_ = './schedule_shapes.py'

train_cfg = dict(max_epochs=16, val_interval=4)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=16)
