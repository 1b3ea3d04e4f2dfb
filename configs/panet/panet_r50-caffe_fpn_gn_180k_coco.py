_base_ = [
    '../_base_/models/panet_r50_fpn_gn.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/schedule_180k.py',
    '../_base_/iteration_runtime.py',
]

train_dataloader = dict(
    sampler=dict(type='InfiniteSampler'),
    dataset=dict(
        pipeline=dict(
            resize=dict(
                _delete_=True,
                type='RandomChoiceResize',
                # 1200 is listed twice in the released config too.
                scales=[(1400, short) for short in (1200, 1200, 1000, 800, 600, 400)],
                keep_ratio=True,
            )
        )
    ),
)
val_dataloader = dict(dataset=dict(pipeline=dict(resize=dict(scale=(1400, 1000)))))
test_dataloader = val_dataloader
