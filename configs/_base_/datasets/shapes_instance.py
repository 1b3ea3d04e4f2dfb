# Boxes and masks of the built-in dataset's 7 things; objects are whole where others lie on them, so masks overlap.
#   python tools/dataset_converters/shapes.py data/shapes --train 1000 --val 200
_base_ = './coco_instance.py'

train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    batch_sampler=None,
    dataset=dict(
        data_root='data/shapes/',
        ann_file='annotations/instances_train.json',
        data_prefix=dict(img='train/'),
        filter_cfg=dict(min_size=0),
        pipeline=dict(resize=dict(scale=(288, 192))),
    ),
)
val_dataloader = dict(
    num_workers=1,
    dataset=dict(
        data_root='data/shapes/',
        ann_file='annotations/instances_val.json',
        data_prefix=dict(img='val/'),
        pipeline=dict(resize=dict(scale=(288, 192))),
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(ann_file='data/shapes/annotations/instances_val.json')
test_evaluator = val_evaluator
