# Detectron's 2x: 180k iterations of 16 images, the learning rate dropped at 120k and at 160k. Biases learn at twice the
# rate, and neither they nor norms decay.
_base_ = './schedule_160k.py'

train_cfg = dict(max_iters=180000)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=180000, milestones=[120000, 160000])
optim_wrapper = dict(paramwise_cfg=dict(bias_lr_mult=2.0, bias_decay_mult=0.0, norm_decay_mult=0.0))
