# The built-in dataset: python tools/dataset_converters/shapes.py data/shapes --train 1000 --val 200
_base_ = './coco_panoptic.py'

train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    batch_sampler=None,
    dataset=dict(
        data_root='data/shapes/',
        ann_file='annotations/panoptic_train.json',
        data_prefix=dict(img='train/', seg='annotations/panoptic_train/'),
        filter_cfg=dict(min_size=0),
        pipeline=dict(resize=dict(scale=(288, 192))),
    ),
)
val_dataloader = dict(
    num_workers=1,
    dataset=dict(
        data_root='data/shapes/',
        ann_file='annotations/panoptic_val.json',
        data_prefix=dict(img='val/', seg='annotations/panoptic_val/'),
        pipeline=dict(resize=dict(scale=(288, 192))),
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(classwise=True)
test_evaluator = val_evaluator
