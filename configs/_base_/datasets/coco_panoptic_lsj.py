# Large-scale jitter: images at 0.1 to 2 times the size of the crop, then cut or filled to it.
# Ghiasi et al., section 4.1, https://arxiv.org/abs/2012.07177
_base_ = './coco_panoptic.py'

image_size = (1024, 1024)  # width, height
train_dataloader = dict(
    batch_sampler=None,  # all images are of one size
    dataset=dict(
        pipeline=dict(
            _delete_=True,
            load=dict(type='LoadImageFromFile'),
            annotations=dict(type='LoadPanopticAnnotations', with_panoptic=False),
            resize=dict(type='RandomResize', scale=image_size, ratio_range=(0.1, 2.0), keep_ratio=True),
            crop=dict(type='RandomCrop', crop_size=image_size, recompute_bbox=True, allow_negative_crop=True),
            # What is left of an instance may be nothing: a box without extent has no regression target.
            filter=dict(type='FilterAnnotations', min_gt_bbox_wh=(1, 1), by_mask=True, keep_empty=False),
            flip=dict(type='RandomFlip', prob=0.5),
            # The mean of the data_preprocessor (blue first), which is 0 for the network; void.
            pad=dict(type='Pad', size=image_size, pad_val=dict(img=(103.53, 116.28, 123.675), masks=0, seg=255)),
            pack=dict(type='PackPanopticInputs'),
        ),
    ),
)

del image_size
