_base_ = './ciae_r50_fpn_ms-180k_coco.py'

# A smaller image in testing; training is not changed.
val_dataloader = dict(dataset=dict(pipeline=dict(resize=dict(scale=(853, 512)))))
test_dataloader = val_dataloader
