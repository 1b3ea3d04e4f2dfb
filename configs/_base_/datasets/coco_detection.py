# Boxes of COCO; the other steps of the pipelines are those of coco_instance.py.
_base_ = './coco_instance.py'

train_dataloader = dict(dataset=dict(need_masks=False, pipeline=dict(annotations=dict(with_mask=False))))
val_dataloader = dict(dataset=dict(need_masks=False, pipeline=dict(annotations=dict(with_mask=False))))
test_dataloader = val_dataloader

val_evaluator = dict(metric='bbox')
test_evaluator = val_evaluator
