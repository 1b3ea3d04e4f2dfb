# Boxes and masks of COCO. A config of other scales changes the step that resizes by its name:
#   train_dataloader = dict(dataset=dict(pipeline=dict(
#       resize=dict(_delete_=True, type='RandomResize', scale=[(1400, 400), (1400, 1400)], keep_ratio=True))))
#   val_dataloader = dict(dataset=dict(pipeline=dict(resize=dict(scale=(1400, 1000)))))
#   test_dataloader = val_dataloader
train_dataloader = dict(
    batch_size=2,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    batch_sampler=dict(type='AspectRatioBatchSampler'),
    dataset=dict(
        type='CocoInstanceDataset',
        data_root='data/coco/',
        ann_file='annotations/instances_train2017.json',
        data_prefix=dict(img='train2017/'),
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline=dict(
            load=dict(type='LoadImageFromFile'),
            annotations=dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
            resize=dict(type='Resize', scale=(1333, 800), keep_ratio=True),
            flip=dict(type='RandomFlip', prob=0.5),
            pack=dict(type='PackDetInputs'),
        ),
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoInstanceDataset',
        data_root='data/coco/',
        ann_file='annotations/instances_val2017.json',
        data_prefix=dict(img='val2017/'),
        test_mode=True,
        pipeline=dict(
            load=dict(type='LoadImageFromFile'),
            resize=dict(type='Resize', scale=(1333, 800), keep_ratio=True),
            # For pictures; after the resize: the ground truth keeps the original size.
            annotations=dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
            pack=dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
        ),
    ),
)
test_dataloader = val_dataloader

# mmdet's CocoMetric, with an error for what cannot be scored and a score where nothing was found.
val_evaluator = dict(
    type='InstanceMetric',
    ann_file='data/coco/annotations/instances_val2017.json',
    metric=['bbox', 'segm'],
)
test_evaluator = val_evaluator
