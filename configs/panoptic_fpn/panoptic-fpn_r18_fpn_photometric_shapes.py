# The steps of _base_/datasets/coco_panoptic_photometric.py at the size of Shapes.
_base_ = './panoptic-fpn_r18_fpn_shapes.py'

train_dataloader = dict(
    dataset=dict(
        pipeline=dict(
            _delete_=True,
            load=dict(type='LoadImageFromFile'),
            annotations=dict(type='LoadPanopticAnnotations', with_panoptic=False),
            resize=dict(type='Resize', scale=(288, 192), keep_ratio=True),
            flip=dict(type='RandomFlip', prob=0.5),
            distort=dict(type='PhotoMetricDistortion'),
            pack=dict(type='PackPanopticInputs'),
        )
    )
)
