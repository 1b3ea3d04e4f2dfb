# Detectron's 1x, half of its 2x.
_base_ = './schedule_180k.py'

max_iters = 90000
train_cfg = dict(max_iters=max_iters)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=max_iters, milestones=[60000, 80000])
