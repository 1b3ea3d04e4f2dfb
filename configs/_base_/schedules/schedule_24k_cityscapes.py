# 24k iterations of 8 images, one on each of 8 GPUs, the learning rate dropped once, at three quarters (PANet).
_base_ = './schedule_160k.py'

train_cfg = dict(max_iters=24000, val_interval=3000)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=24000, milestones=[18000])
optim_wrapper = dict(optimizer=dict(lr=0.01))
auto_scale_lr = dict(base_batch_size=8)
