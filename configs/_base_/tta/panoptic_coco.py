# SpatialFlow's views and how they are merged; for a config with a panoptic dataset:
#   python tools/test.py CONFIG CHECKPOINT --tta
tta_model = dict(type='PanopticTTAModel')
tta_pipeline = dict(
    load=dict(type='LoadImageFromFile'),
    views=dict(
        type='TestTimeAug',
        transforms=dict(
            resize=[
                dict(type='Resize', scale=scale, keep_ratio=True)
                for scale in ((1500, 1000), (1800, 1200), (2100, 1400))
            ],
            flip=[dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)],
            # The ground truth keeps the original size; that of the first view is used.
            annotations=[dict(type='LoadPanopticAnnotations')],
            pack=[
                dict(
                    type='PackPanopticInputs',
                    meta_keys=(
                        'img_id',
                        'img_path',
                        'ori_shape',
                        'img_shape',
                        'scale_factor',
                        'flip',
                        'flip_direction',
                    ),
                )
            ],
        ),
    ),
)
