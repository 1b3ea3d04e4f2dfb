# CIAE; what the paper leaves out is FCOS's or as noted in configs/ciae/README.md. https://arxiv.org/abs/2009.13342
_base_ = './resnet50.py'

num_things_classes = 80
num_stuff_classes = 53

model = dict(
    type='CIAE',
    data_preprocessor=dict(pad_mask=True, mask_pad_value=0, pad_seg=True, seg_pad_value=255),
    # P2 to P7: the proposal head takes P3 to P7, the embedding branch P2 to P5.
    neck=dict(
        type='FPN',
        in_channels=[256, 512, 1024, 2048],
        out_channels=256,
        add_extra_convs='on_output',
        relu_before_extra_convs=True,
        num_outs=6,
    ),
    bbox_head=dict(
        type='CIAEProposalHead',
        num_classes=num_things_classes,
        in_channels=256,
        stacked_convs=4,
        feat_channels=256,
        strides=[8, 16, 32, 64, 128],
        regress_ranges=((-1, 64), (64, 128), (128, 256), (256, 512), (512, 1e8)),
        box_embedding_dims=32,
        loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(type='IoULoss', loss_weight=1.0),
        loss_centerness=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
    ),
    semantic_head=dict(
        type='CIAEHead',
        num_things_classes=num_things_classes,
        num_stuff_classes=num_stuff_classes,
        in_channels=256,
        inner_channels=128,
        embedding_dims=32,
        box_embedding_dims=32,
        coord_conv='all',
        thing_categories='merge',
        stuff_modeling='ciae',
        momentum=0.9999,
        norm_cfg=dict(type='GN', num_groups=32, requires_grad=True),
        loss=dict(type='CIAELoss', margin=0.15, topk=5, self_term=True, filter_scale=1.5, alpha=2.0, thing_weight=5.0),
    ),
    panoptic_fusion_head=dict(
        type='EmbeddingFusion',
        num_things_classes=num_things_classes,
        num_stuff_classes=num_stuff_classes,
        score_thr=0.25,
        box_scale=1.0,
        stuff_area_limit=4096,
        category_from='detector',
    ),
    test_cfg=dict(
        nms_pre=1000, min_bbox_size=0, score_thr=0.05, nms=dict(type='nms', iou_threshold=0.6), max_per_img=100
    ),
)

del num_things_classes, num_stuff_classes
