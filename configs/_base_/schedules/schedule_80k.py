# Half of schedule_160k.py.
_base_ = './schedule_160k.py'

max_iters = 80000
train_cfg = dict(max_iters=max_iters)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=max_iters, milestones=[60000])
