# For 50 to 5000 images: 4000 iterations of 4 images, a rate that falls along a cosine, mixed precision where there is a
# GPU. The learning rate is for training from scratch; a pretrained backbone takes a tenth.
_base_ = '../iteration_runtime.py'

train_cfg = dict(type='IterBasedTrainLoop', max_iters=4000, val_interval=500)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=200),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=0, end=4000),
]
optim_wrapper = dict(
    type='AmpOptimWrapper',
    dtype='auto',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
    clip_grad=dict(max_norm=10.0),
)
auto_scale_lr = dict(enable=False, base_batch_size=4)
default_hooks = dict(checkpoint=dict(interval=500))
