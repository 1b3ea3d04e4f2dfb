_base_ = '../spatialflow_r50_fpn_20e_coco.py'

train_pipeline, test_pipeline = _base_.train_pipeline, _base_.test_pipeline
train_pipeline[2] = dict(type='Resize', scale=(1000, 600), keep_ratio=True)
test_pipeline[1] = dict(type='Resize', scale=(1000, 600), keep_ratio=True)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
