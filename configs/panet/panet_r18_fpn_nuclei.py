_base_ = [
    '../_base_/models/mask-rcnn_r18_fpn_small.py',
    '../_base_/models/panet_parts.py',
    '../_base_/datasets/nuclei_instance.py',
    '../_base_/schedules/schedule_nuclei.py',
    '../_base_/default_runtime.py',
]
default_hooks = dict(logger=dict(interval=10))

model = _base_._panet
model.update(
    # As for Panoptic FPN: half the usual anchors, and more proposals.
    rpn_head=dict(anchor_generator=dict(scales=[4])),
    train_cfg=dict(rpn_proposal=dict(nms_pre=1000, max_per_img=500), rcnn=dict(sampler=dict(num=128))),
    test_cfg=dict(rpn=dict(nms_pre=1000, max_per_img=500)),
)
model.roi_head.bbox_head.update(num_classes=1, conv_out_channels=64)
model.roi_head.mask_head.update(num_classes=1, num_convs=4)
