default_scope = 'mmpanoptic'

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    # More than one: the newest may be incomplete if the process is killed while it is written.
    checkpoint=dict(
        type='CheckpointHook',
        interval=1,
        max_keep_ckpts=3,
        save_best='auto',  # by the first score of the validation: PQ, or box AP of models of instances only
        last_link='last.pth',
    ),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    finite=dict(type='FiniteLossHook'),
    stop=dict(type='StopHook'),
    transfer=dict(type='ClassTransferHook'),  # what load_from may have: other classes
    visualization=dict(type='PanopticVisualizationHook'),
)
custom_hooks = [
    dict(type='PanopticCheckHook'),
    dict(type='SyncBuffersHook'),  # batch norm's statistics differ between processes otherwise
    dict(type='RankingConflictHook'),
]

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),  # gloo where there is no GPU
)

visualizer = dict(
    type='PanopticVisualizer',
    vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')],
    name='visualizer',
)
log_processor = dict(type='LogProcessor', window_size=50, by_epoch=True)
randomness = dict(seed=0)

log_level = 'INFO'
load_from = None
resume = False
