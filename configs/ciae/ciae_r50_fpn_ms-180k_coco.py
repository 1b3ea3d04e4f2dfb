_base_ = './ciae_r50_fpn_90k_coco.py'

train_dataloader = dict(
    dataset=dict(
        pipeline=dict(
            resize=dict(_delete_=True, type='RandomResize', scale=[(1333, 640), (1333, 800)], keep_ratio=True)
        )
    )
)

# Twice as long; where the rate drops is not said: at the same parts of it.
train_cfg = dict(max_iters=180000)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=180000, milestones=[120000, 160000])
