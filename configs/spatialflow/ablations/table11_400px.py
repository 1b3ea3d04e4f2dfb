_base_ = '../spatialflow_r50_fpn_20e_coco.py'

# A smaller image in testing; training is not changed.
test_pipeline = _base_.test_pipeline
test_pipeline[1] = dict(type='Resize', scale=(667, 400), keep_ratio=True)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
