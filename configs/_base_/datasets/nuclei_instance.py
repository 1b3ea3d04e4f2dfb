# Boxes and masks of the nuclei, from the panoptic files of nuclei_panoptic.py: nothing more to convert.
_base_ = './nuclei_panoptic.py'

train_pipeline = _base_.train_pipeline
train_pipeline[1] = dict(type='LoadPanopticAnnotations', with_seg=False, with_panoptic=False)
test_pipeline = _base_.test_pipeline
test_pipeline[2] = dict(type='LoadPanopticAnnotations', with_seg=False)

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

val_evaluator = dict(_delete_=True, type='InstanceMetric', metric=['bbox', 'segm'])
test_evaluator = val_evaluator
