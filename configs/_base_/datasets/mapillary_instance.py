# Boxes and masks of Mapillary Vistas' 37 things, from the files of tools/dataset_converters/mapillary.py, at the scales
# of PANet, which names no single one for testing: its largest of training. The dataset has an iteration schedule only,
# hence the endless sampler. Images are large and their masks are decoded before the resize, hence more workers.
# Instance maps follow the pixels as they are stored, so an orientation in EXIF is not applied.
_base_ = './coco_instance.py'

train_dataloader = dict(
    num_workers=4,
    sampler=dict(type='InfiniteSampler'),
    dataset=dict(
        type='MapillaryVistasDataset',
        data_root='data/mapillary/',
        ann_file='annotations/instances_training.json',
        data_prefix=dict(img='training/images/'),
        pipeline=dict(
            load=dict(color_type='color_ignore_orientation'),
            resize=dict(_delete_=True, type='RandomResize', scale=[(2400, 600), (2400, 2000)], keep_ratio=True),
        ),
    ),
)
val_dataloader = dict(
    dataset=dict(
        type='MapillaryVistasDataset',
        data_root='data/mapillary/',
        ann_file='annotations/instances_validation.json',
        data_prefix=dict(img='validation/images/'),
        pipeline=dict(load=dict(color_type='color_ignore_orientation'), resize=dict(scale=(2400, 2000))),
    ),
)
test_dataloader = val_dataloader

# As many detections of a class in an image as there are: Vistas' own evaluation has no limit, COCO's is 100.
val_evaluator = dict(ann_file='data/mapillary/annotations/instances_validation.json', proposal_nums=(500, 700, 1000))
test_evaluator = val_evaluator
