# Mask R-CNN for the built-in dataset: the tiny Panoptic FPN without its semantic branch.
_base_ = './panoptic-fpn_r18_fpn_tiny.py'

model = _base_.model
model.update(_delete_=True, type='MaskRCNN')
model.pop('semantic_head')
model.pop('panoptic_fusion_head')
