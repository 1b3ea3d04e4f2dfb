# Data of one's own in COCO's panoptic format, as `mmpanoptic import` writes it: <data_root>/train/ and val/ hold the
# images, <data_root>/annotations/ holds panoptic_train.json, panoptic_train/*.png and the same of val.
_base_ = './coco_panoptic.py'

data_root = 'data/own/'

train_dataloader = dict(
    batch_size=4,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        data_root='auto',  # the one above, or that of the config that inherits this one
        ann_file='annotations/panoptic_train.json',
        data_prefix=dict(img='train/', seg='annotations/panoptic_train/'),
        filter_cfg=dict(filter_empty_gt=False),  # images without things have stuff to learn from
        pipeline=dict(resize=dict(scale=(853, 512))),
    ),
)
val_dataloader = dict(
    dataset=dict(
        data_root='auto',
        ann_file='annotations/panoptic_val.json',
        data_prefix=dict(img='val/', seg='annotations/panoptic_val/'),
        pipeline=dict(resize=dict(scale=(853, 512))),
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(classwise=True)
test_evaluator = val_evaluator

# As large as images of COCO are: train_dataloader = dict(dataset=dict(pipeline=_base_._large))
_large = dict(resize=dict(scale=(1333, 800)))
