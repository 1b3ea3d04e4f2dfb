# Boxes and masks of the nuclei, from the panoptic files of nuclei_panoptic.py: nothing more to convert.
_base_ = './nuclei_panoptic.py'

train_dataloader = dict(dataset=dict(pipeline=dict(annotations=dict(with_seg=False))))
val_dataloader = dict(dataset=dict(pipeline=dict(annotations=dict(with_seg=False))))
test_dataloader = val_dataloader

val_evaluator = dict(_delete_=True, type='InstanceMetric', metric=['bbox', 'segm'])
test_evaluator = val_evaluator
