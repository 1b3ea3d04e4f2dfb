_base_ = [
    '../_base_/models/panet_r50_fpn_syncbn.py',
    '../_base_/datasets/mapillary_instance.py',
    '../_base_/schedules/schedule_80k.py',
    '../_base_/iteration_runtime.py',
]

model = dict(
    # Three scales on strides 4 to 64 are the paper's seven, 8² to 512², each level sharing two with the next.
    rpn_head=dict(anchor_generator=dict(scales=[2, 4, 8], ratios=[0.2, 0.5, 1.0, 2.0, 5.0])),
    roi_head=dict(bbox_head=dict(num_classes=37), mask_head=dict(num_classes=37)),
    # Images have more than 100 things. A run warns if one has more than this.
    test_cfg=dict(rcnn=dict(max_per_img=500)),
)
