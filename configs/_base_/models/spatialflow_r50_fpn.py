# SpatialFlow with the thresholds of its released code. https://arxiv.org/abs/1910.08787
_base_ = './retinanet_r50_fpn.py'

num_things_classes = 80
num_stuff_classes = 53

model = dict(
    type='SpatialFlow',
    data_preprocessor=dict(pad_mask=True, mask_pad_value=0, pad_seg=True, seg_pad_value=255),
    bbox_head=dict(
        type='SpatialFlowHead',
        num_classes=num_things_classes,
        num_stuff_stages=4,
        num_thing_stages=1,
        num_panoptic_levels=3,
        flows=dict(reg2cls=True, reg2stuff=True, reg2thing=True, stuff2thing=True),
        flow_source='reg',
    ),
    mask_roi_extractor=dict(
        type='SingleRoIExtractor',
        roi_layer=dict(type='RoIAlign', output_size=14, sampling_ratio=0),
        out_channels=256,
        featmap_strides=[8, 16, 32],
        finest_scale=56,
    ),
    mask_head=dict(
        type='FCNMaskHead',
        num_convs=4,
        in_channels=256,
        conv_out_channels=256,
        num_classes=num_things_classes,
        loss_mask=dict(type='CrossEntropyLoss', use_mask=True, loss_weight=1.0),
    ),
    semantic_head=dict(
        type='SpatialFlowStuffHead',
        num_things_classes=num_things_classes,
        num_stuff_classes=num_stuff_classes,
        in_channels=256,
        inner_channels=128,
        num_levels=3,
        merge_things=True,
        align_corners=True,
        resize='labels',
        norm_cfg=dict(type='GN', num_groups=32, requires_grad=True),
        loss_seg=dict(type='CrossEntropyLoss', ignore_index=255, avg_non_ignore=True, loss_weight=0.25),
    ),
    panoptic_fusion_head=dict(
        type='BoxFillFusion',
        num_things_classes=num_things_classes,
        num_stuff_classes=num_stuff_classes,
        score_thr=0.37,
        overlap_thr=0.37,
        stuff_area_limit=4900,
        box_fill_thr=0.5,
    ),
    train_cfg=dict(
        # Boxes that masks are trained on, the annotated ones aside.
        proposal=dict(
            nms_pre=1000, min_bbox_size=0, score_thr=0.05, nms=dict(type='nms', iou_threshold=0.4), max_per_img=100
        ),
        thing=dict(
            assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.5, ignore_iof_thr=-1),
            mask_size=28,
        ),
    ),
    test_cfg=dict(nms=dict(iou_threshold=0.4), mask_thr_binary=0.5),
)

del num_things_classes, num_stuff_classes
