# The steps of a pipeline have names, by which a config changes them:
#   train_dataloader = dict(dataset=dict(pipeline=dict(flip=dict(prob=0.0))))
# Where the type of a step changes, _delete_=True in it takes away the arguments of the old one.
train_dataloader = dict(
    batch_size=2,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    batch_sampler=dict(type='AspectRatioBatchSampler'),
    dataset=dict(
        type='CocoPanopticDataset',
        data_root='data/coco/',
        ann_file='annotations/panoptic_train2017.json',
        data_prefix=dict(img='train2017/', seg='annotations/panoptic_train2017/'),
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline=dict(
            load=dict(type='LoadImageFromFile'),
            annotations=dict(type='LoadPanopticAnnotations', with_panoptic=False),
            resize=dict(type='Resize', scale=(1333, 800), keep_ratio=True),
            flip=dict(type='RandomFlip', prob=0.5),
            pack=dict(type='PackPanopticInputs'),
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
        type='CocoPanopticDataset',
        data_root='data/coco/',
        ann_file='annotations/panoptic_val2017.json',
        data_prefix=dict(img='val2017/', seg='annotations/panoptic_val2017/'),
        test_mode=True,
        pipeline=dict(
            load=dict(type='LoadImageFromFile'),
            resize=dict(type='Resize', scale=(1333, 800), keep_ratio=True),
            # After the resize: the ground truth keeps the original size.
            annotations=dict(type='LoadPanopticAnnotations'),
            pack=dict(
                type='PackPanopticInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
            ),
        ),
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type='PanopticMetric')
test_evaluator = val_evaluator
