_base_ = './ciae_r50_fpn_ms-180k_coco.py'

# A smaller image in testing; training is not changed.
test_pipeline = _base_.test_pipeline
test_pipeline[1] = dict(type='Resize', scale=(1066, 640), keep_ratio=True)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
