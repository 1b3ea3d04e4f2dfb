# The files of tools/dataset_converters/cityscapes.py.
_base_ = './coco_panoptic.py'

train_dataloader = dict(
    sampler=dict(type='InfiniteSampler'),
    batch_sampler=None,
    dataset=dict(
        type='CityscapesPanopticDataset',
        data_root='data/cityscapes/',
        ann_file='gtFine/cityscapes_panoptic_train.json',
        data_prefix=dict(img='leftImg8bit/train/', seg='gtFine/cityscapes_panoptic_train/'),
        filter_cfg=dict(filter_empty_gt=False),
        pipeline=dict(
            _delete_=True,
            load=dict(type='LoadImageFromFile'),
            annotations=dict(type='LoadPanopticAnnotations', with_panoptic=False),
            resize=dict(type='RandomResize', scale=(2048, 1024), ratio_range=(0.5, 2.0), keep_ratio=True),
            crop=dict(type='RandomCrop', crop_size=(512, 1024), allow_negative_crop=True, recompute_bbox=True),
            # What a crop leaves of an instance may be nothing: a box without extent has no regression target.
            filter=dict(type='FilterAnnotations', min_gt_bbox_wh=(2, 2), by_mask=True, keep_empty=False),
            flip=dict(type='RandomFlip', prob=0.5),
            pack=dict(type='PackPanopticInputs'),
        ),
    ),
)
val_dataloader = dict(
    dataset=dict(
        type='CityscapesPanopticDataset',
        data_root='data/cityscapes/',
        ann_file='gtFine/cityscapes_panoptic_val.json',
        data_prefix=dict(img='leftImg8bit/val/', seg='gtFine/cityscapes_panoptic_val/'),
        pipeline=dict(resize=dict(scale=(2048, 1024))),
    ),
)
test_dataloader = val_dataloader
