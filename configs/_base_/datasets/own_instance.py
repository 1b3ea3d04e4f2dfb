# Instances of one's own, as any tool exports them in COCO's format: <data_root>/train/ and val/ hold images,
# <data_root>/annotations/ holds instances_train.json and instances_val.json.
_base_ = './coco_instance.py'

data_root = 'data/own/'

train_dataloader = dict(
    batch_size=4,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        data_root='auto',  # the one above, or that of the config that inherits this one
        ann_file='annotations/instances_train.json',
        data_prefix=dict(img='train/'),
        pipeline=dict(resize=dict(scale=(853, 512))),
    ),
)
val_dataloader = dict(
    dataset=dict(
        data_root='auto',
        ann_file='annotations/instances_val.json',
        data_prefix=dict(img='val/'),
        pipeline=dict(resize=dict(scale=(853, 512))),
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(ann_file='auto', classwise=True)  # the file of the dataset that is scored
test_evaluator = val_evaluator

# As large as images of COCO are: train_dataloader = dict(dataset=dict(pipeline=_base_._large))
_large = dict(resize=dict(scale=(1333, 800)))
