# The files of tools/dataset_converters/cityscapes.py.
_base_ = './coco_panoptic.py'

data_root = 'data/cityscapes/'

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadPanopticAnnotations', with_panoptic=False),
    dict(type='RandomResize', scale=(2048, 1024), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(512, 1024), allow_negative_crop=True, recompute_bbox=True),
    # What a crop leaves of an instance may be nothing: a box without extent has no regression target.
    dict(type='FilterAnnotations', min_gt_bbox_wh=(2, 2), by_mask=True, keep_empty=False),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackPanopticInputs'),
]
test_pipeline = _base_.test_pipeline
test_pipeline[1] = dict(type='Resize', scale=(2048, 1024), keep_ratio=True)

train_dataloader = dict(
    sampler=dict(type='InfiniteSampler'),
    batch_sampler=None,
    dataset=dict(
        type='CityscapesPanopticDataset',
        data_root=data_root,
        ann_file='gtFine/cityscapes_panoptic_train.json',
        data_prefix=dict(img='leftImg8bit/train/', seg='gtFine/cityscapes_panoptic_train/'),
        filter_cfg=dict(filter_empty_gt=False),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    dataset=dict(
        type='CityscapesPanopticDataset',
        data_root=data_root,
        ann_file='gtFine/cityscapes_panoptic_val.json',
        data_prefix=dict(img='leftImg8bit/val/', seg='gtFine/cityscapes_panoptic_val/'),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
