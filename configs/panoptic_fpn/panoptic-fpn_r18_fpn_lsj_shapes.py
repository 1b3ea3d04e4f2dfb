# The steps of _base_/datasets/coco_panoptic_lsj.py at the size of Shapes.
_base_ = './panoptic-fpn_r18_fpn_shapes.py'

image_size = (288, 192)  # width, height
train_dataloader = dict(
    dataset=dict(
        pipeline=dict(
            _delete_=True,
            load=dict(type='LoadImageFromFile'),
            annotations=dict(type='LoadPanopticAnnotations', with_panoptic=False),
            resize=dict(type='RandomResize', scale=image_size, ratio_range=(0.1, 2.0), keep_ratio=True),
            crop=dict(type='RandomCrop', crop_size=image_size, recompute_bbox=True, allow_negative_crop=True),
            filter=dict(type='FilterAnnotations', min_gt_bbox_wh=(1, 1), by_mask=True, keep_empty=False),
            flip=dict(type='RandomFlip', prob=0.5),
            pad=dict(type='Pad', size=image_size, pad_val=dict(img=(103.53, 116.28, 123.675), masks=0, seg=255)),
            pack=dict(type='PackPanopticInputs'),
        )
    )
)

del image_size
