_base_ = './ciae_r50_fpn_90k_coco.py'

train_pipeline = _base_.train_pipeline
train_pipeline[2] = dict(type='RandomResize', scale=[(1333, 640), (1333, 800)], keep_ratio=True)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

# Twice as long; where the rate drops is not said: at the same parts of it.
max_iters = 180000
train_cfg = dict(max_iters=max_iters)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=max_iters, milestones=[120000, 160000])
