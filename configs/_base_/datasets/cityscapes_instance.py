# Boxes and masks of Cityscapes' 8 things, from the files of tools/dataset_converters/cityscapes.py. Its
# schedule is one of iterations, hence the endless sampler. Scales: PANet's.
_base_ = './coco_instance.py'

data_root = 'data/cityscapes/'

train_pipeline = _base_.train_pipeline
train_pipeline[2] = dict(type='RandomChoiceResize', scales=[(2048, 800), (2048, 1024)], keep_ratio=True)
test_pipeline = _base_.test_pipeline
test_pipeline[1] = dict(type='Resize', scale=(2048, 1024), keep_ratio=True)

train_dataloader = dict(
    batch_size=1,
    sampler=dict(type='InfiniteSampler'),
    batch_sampler=None,
    dataset=dict(
        type='CocoInstanceDataset',
        data_root=data_root,
        ann_file='gtFine/cityscapes_instances_train.json',
        data_prefix=dict(img='leftImg8bit/train/'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    dataset=dict(
        type='CocoInstanceDataset',
        data_root=data_root,
        ann_file='gtFine/cityscapes_instances_val.json',
        data_prefix=dict(img='leftImg8bit/val/'),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = [
    dict(
        type='InstanceMetric',
        ann_file=data_root + 'gtFine/cityscapes_instances_val.json',
        metric=['bbox', 'segm'],
    ),
    dict(type='CityscapesInstanceMetric', seg_prefix=data_root + 'gtFine/val/', classwise=True),
]
test_evaluator = val_evaluator
