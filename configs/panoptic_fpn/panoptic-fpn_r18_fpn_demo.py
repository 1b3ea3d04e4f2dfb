# What `make demo` trains: panoptic-fpn_r18_fpn_shapes.py on images of two thirds of the size.
_base_ = './panoptic-fpn_r18_fpn_shapes.py'

channels = 48
model = dict(
    # Three quarters of the channels, and one sample a bin: a step takes three quarters of the time.
    neck=dict(out_channels=channels),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=channels, roi_layer=dict(sampling_ratio=1)),
        bbox_head=dict(in_channels=channels),
        mask_roi_extractor=dict(out_channels=channels, roi_layer=dict(sampling_ratio=1)),
        mask_head=dict(in_channels=channels, conv_out_channels=channels),
    ),
    # Twice the usual weight: in so few steps, stuff is what can be learned.
    semantic_head=dict(
        in_channels=channels,
        inner_channels=channels,
        norm_cfg=dict(num_groups=16),
        loss_seg=dict(loss_weight=1.0),
    ),
    # Objects are smaller and fewer than proposals would be on images of the full size.
    rpn_head=dict(in_channels=channels, feat_channels=channels, anchor_generator=dict(scales=[4])),
    train_cfg=dict(rpn_proposal=dict(nms_pre=200, max_per_img=100), rcnn=dict(sampler=dict(num=32))),
    test_cfg=dict(rpn=dict(nms_pre=200, max_per_img=100)),
    # After so few steps, scores are lower than they will be.
    panoptic_fusion_head=dict(score_thr=0.3, stuff_area_limit=112),
)
# python tools/dataset_converters/shapes.py data/demo --train 500 --val 100 --size 128 192
# Small batches: from scratch, many steps are worth more than many images.
train_dataloader = dict(
    batch_size=2, dataset=dict(data_root='data/demo/', pipeline=dict(resize=dict(scale=(192, 128))))
)
val_dataloader = dict(
    # Few: for a curve and a first picture.
    dataset=dict(data_root='data/demo/', indices=20, pipeline=dict(resize=dict(scale=(192, 128))))
)
test_dataloader = dict(dataset=dict(data_root='data/demo/', pipeline=dict(resize=dict(scale=(192, 128)))))
val_evaluator = dict(classwise=False)
test_evaluator = dict(classwise=False)

train_cfg = dict(max_epochs=4)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=4)
optim_wrapper = dict(optimizer=dict(lr=2e-3, fused=True))
auto_scale_lr = dict(base_batch_size=2)
default_hooks = dict(visualization=dict(draw=True))

del channels
