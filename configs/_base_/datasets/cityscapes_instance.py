# Boxes and masks of Cityscapes' 8 things, from the files of tools/dataset_converters/cityscapes.py. Its
# schedule is one of iterations, hence the endless sampler. Scales: PANet's.
_base_ = './coco_instance.py'

train_dataloader = dict(
    batch_size=1,
    sampler=dict(type='InfiniteSampler'),
    batch_sampler=None,
    dataset=dict(
        data_root='data/cityscapes/',
        ann_file='gtFine/cityscapes_instances_train.json',
        data_prefix=dict(img='leftImg8bit/train/'),
        pipeline=dict(
            resize=dict(_delete_=True, type='RandomChoiceResize', scales=[(2048, 800), (2048, 1024)], keep_ratio=True)
        ),
    ),
)
val_dataloader = dict(
    dataset=dict(
        data_root='data/cityscapes/',
        ann_file='gtFine/cityscapes_instances_val.json',
        data_prefix=dict(img='leftImg8bit/val/'),
        pipeline=dict(resize=dict(scale=(2048, 1024))),
    ),
)
test_dataloader = val_dataloader

val_evaluator = [
    dict(
        type='InstanceMetric',
        ann_file='data/cityscapes/gtFine/cityscapes_instances_val.json',
        metric=['bbox', 'segm'],
    ),
    dict(type='CityscapesInstanceMetric', seg_prefix='data/cityscapes/gtFine/val/', classwise=True),
]
test_evaluator = val_evaluator
