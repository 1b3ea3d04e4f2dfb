# Brightness, contrast, saturation and hue are changed, and channels swapped, each in half of the images.
# Liu et al., SSD, section 2.2, https://arxiv.org/abs/1512.02325
_base_ = './coco_panoptic.py'

train_dataloader = dict(
    dataset=dict(
        pipeline=dict(
            _delete_=True,
            load=dict(type='LoadImageFromFile'),
            annotations=dict(type='LoadPanopticAnnotations', with_panoptic=False),
            resize=dict(type='Resize', scale=(1333, 800), keep_ratio=True),
            flip=dict(type='RandomFlip', prob=0.5),
            distort=dict(type='PhotoMetricDistortion'),
            pack=dict(type='PackPanopticInputs'),
        )
    )
)
