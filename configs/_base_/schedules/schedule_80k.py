# Half of schedule_160k.py.
_base_ = './schedule_160k.py'

train_cfg = dict(max_iters=80000)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=80000, milestones=[60000])
