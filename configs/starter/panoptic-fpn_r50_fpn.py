_base_ = [
    '../_base_/models/panoptic-fpn_r50_fpn.py',
    '../_base_/models/classes_of_data.py',
    '../_base_/datasets/own_panoptic.py',
    '../_base_/schedules/schedule_own.py',
]

model = _base_._two_stage

train_dataloader = dict(dataset=dict(pipeline=_base_._large))
val_dataloader = dict(dataset=dict(pipeline=_base_._large))
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(lr=1e-4))
