# Detectron's 1x, half of its 2x.
_base_ = './schedule_180k.py'

train_cfg = dict(max_iters=90000)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=90000, milestones=[60000, 80000])
