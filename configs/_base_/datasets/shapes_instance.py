# Boxes and masks of the built-in dataset's 7 things; objects are whole where others lie on them, so masks overlap.
#   python tools/dataset_converters/shapes.py data/shapes --train 1000 --val 200
_base_ = './coco_instance.py'

data_root = 'data/shapes/'
image_size = (288, 192)  # width, height
metainfo = dict(
    classes=('person', 'tie', 'car', 'tree', 'sign', 'ball', 'box'),
    palette=[
        (220, 20, 60),
        (255, 215, 0),
        (0, 60, 190),
        (60, 130, 20),
        (250, 130, 10),
        (170, 40, 200),
        (0, 190, 190),
    ],
)

train_pipeline = _base_.train_pipeline
train_pipeline[2] = dict(type='Resize', scale=image_size, keep_ratio=True)
test_pipeline = _base_.test_pipeline
test_pipeline[1] = dict(type='Resize', scale=image_size, keep_ratio=True)

train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    batch_sampler=None,
    dataset=dict(
        data_root=data_root,
        ann_file='annotations/instances_train.json',
        data_prefix=dict(img='train/'),
        filter_cfg=dict(min_size=0),
        metainfo=metainfo,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    num_workers=1,
    dataset=dict(
        data_root=data_root,
        ann_file='annotations/instances_val.json',
        data_prefix=dict(img='val/'),
        metainfo=metainfo,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(ann_file=data_root + 'annotations/instances_val.json')
test_evaluator = val_evaluator
