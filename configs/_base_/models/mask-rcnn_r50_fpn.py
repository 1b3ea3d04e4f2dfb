# Mask R-CNN with the hyper-parameters of mmdet's model of that name. https://arxiv.org/abs/1703.06870
_base_ = './panoptic-fpn_r50_fpn.py'

model = _base_.model
model.update(_delete_=True, type='MaskRCNN')
model.pop('semantic_head')
model.pop('panoptic_fusion_head')
model.test_cfg.rcnn.nms.class_agnostic = False
