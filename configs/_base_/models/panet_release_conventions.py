# How Detectron and its descendants, the released PANet among them, count pixels: a box includes its last one, RoIAlign
# is not shifted by half a one, anchors have rounded sides, proposals are cut to the padded input. A released model
# needs these for the released numbers.
_release_conventions = dict(
    rpn_head=dict(
        type='DetectronRPNHead',
        anchor_generator=dict(type='DetectronAnchorGenerator'),
        bbox_coder=dict(type='DetectronBBoxCoder'),
    ),
    roi_head=dict(
        type='DetectronRoIHead',
        bbox_roi_extractor=dict(roi_layer=dict(aligned=False)),
        bbox_head=dict(bbox_coder=dict(type='DetectronBBoxCoder')),
    ),
    # No box is too small: in this convention the smallest has a pixel.
    train_cfg=dict(rpn_proposal=dict(nms=dict(offset=1), min_bbox_size=-1)),
    test_cfg=dict(rpn=dict(nms=dict(offset=1), min_bbox_size=-1), rcnn=dict(nms=dict(offset=1))),
)
