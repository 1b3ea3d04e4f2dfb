_base_ = [
    '../_base_/models/ciae_r50_fpn.py',
    '../_base_/models/classes_of_data.py',
    '../_base_/datasets/own_panoptic.py',
    '../_base_/schedules/schedule_own.py',
]

model = _base_._ciae
# So few iterations that with the paper's 0.9999 the memory would stay what it was at random.
model.semantic_head.update(momentum=0.99)

train_dataloader = dict(dataset=dict(pipeline=_base_._large))
val_dataloader = dict(dataset=dict(pipeline=_base_._large))
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(lr=1e-4))
