# What PANet's parts are added to: Mask R-CNN with losses, RoIAlign and proposals as in PANet's released code, on which
# its paper is silent. https://github.com/ShuLiu1993/PANet
_base_ = './mask-rcnn_r50_fpn.py'

model = dict(
    rpn_head=dict(loss_bbox=dict(type='SmoothL1Loss', beta=1.0 / 9.0)),
    roi_head=dict(
        bbox_roi_extractor=dict(roi_layer=dict(sampling_ratio=2)),
        bbox_head=dict(loss_bbox=dict(type='SmoothL1Loss', beta=1.0 / 3.0)),
        mask_roi_extractor=dict(roi_layer=dict(sampling_ratio=2)),
    ),
    train_cfg=dict(rpn_proposal=dict(nms_pre=2000, max_per_img=2000)),
)
# What makes boxes the only result: model = _base_._boxes_only
_boxes_only = dict(type='FasterRCNN', roi_head=dict(mask_roi_extractor=None, mask_head=None))
