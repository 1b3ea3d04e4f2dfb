_base_ = [
    '../_base_/models/oanet_r50_fpn.py',
    '../_base_/models/classes_of_data.py',
    '../_base_/datasets/own_panoptic.py',
    '../_base_/schedules/schedule_own.py',
]

model = _base_._two_stage
# Masks that overlap: those of the panoptic PNGs do not, and the ranking module would learn nothing.
train_dataloader = dict(dataset=dict(inst_ann_file='annotations/instances_train.json', pipeline=_base_._large))
val_dataloader = dict(dataset=dict(inst_ann_file='annotations/instances_val.json', pipeline=_base_._large))
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(lr=1e-4))
