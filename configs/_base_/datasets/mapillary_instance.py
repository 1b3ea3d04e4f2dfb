# Boxes and masks of Mapillary Vistas' 37 things, from the files of tools/dataset_converters/mapillary.py, at the scales
# of PANet, which names no single one for testing: its largest of training. The dataset has an iteration schedule only,
# hence the endless sampler. Images are large and their masks are decoded before the resize, hence more workers.
_base_ = './coco_instance.py'

data_root = 'data/mapillary/'

# Instance maps follow the pixels as they are stored, so an orientation in EXIF is not applied.
image_loader = dict(type='LoadImageFromFile', color_type='color_ignore_orientation')
train_pipeline = _base_.train_pipeline
train_pipeline[0] = image_loader
train_pipeline[2] = dict(type='RandomResize', scale=[(2400, 600), (2400, 2000)], keep_ratio=True)
test_pipeline = _base_.test_pipeline
test_pipeline[0] = image_loader
test_pipeline[1] = dict(type='Resize', scale=(2400, 2000), keep_ratio=True)

train_dataloader = dict(
    num_workers=4,
    sampler=dict(type='InfiniteSampler'),
    dataset=dict(
        type='MapillaryVistasDataset',
        data_root=data_root,
        ann_file='annotations/instances_training.json',
        data_prefix=dict(img='training/images/'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    dataset=dict(
        type='MapillaryVistasDataset',
        data_root=data_root,
        ann_file='annotations/instances_validation.json',
        data_prefix=dict(img='validation/images/'),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(ann_file=data_root + 'annotations/instances_validation.json')
test_evaluator = val_evaluator
