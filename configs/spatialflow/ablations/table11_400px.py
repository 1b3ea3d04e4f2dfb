_base_ = '../spatialflow_r50_fpn_20e_coco.py'

# A smaller image in testing; training is not changed.
val_dataloader = dict(dataset=dict(pipeline=dict(resize=dict(scale=(667, 400)))))
test_dataloader = val_dataloader
