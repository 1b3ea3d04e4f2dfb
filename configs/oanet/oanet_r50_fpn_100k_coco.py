_base_ = [
    '../_base_/models/oanet_r50_fpn.py',
    '../_base_/datasets/coco_panoptic.py',
    '../_base_/schedules/schedule_100k.py',
    '../_base_/iteration_runtime.py',
]

# Instances whose masks overlap: those of the panoptic PNGs do not, and the ranking module would learn nothing.
train_dataloader = dict(
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        inst_ann_file='annotations/instances_train2017.json',
        filter_cfg=dict(filter_empty_gt=False),  # all of train2017, stuff-only images too
    ),
)
val_dataloader = dict(dataset=dict(inst_ann_file='annotations/instances_val2017.json'))
test_dataloader = val_dataloader
