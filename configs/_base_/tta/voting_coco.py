# The views of PANet's challenge entry and how they are merged; for a config with an instance or detection dataset:
#   python tools/test.py CONFIG CHECKPOINT --tta
tta_model = dict(type='InstanceTTAModel', vote_iou_thr=0.8, tight_boxes=False)
tta_pipeline = dict(
    load=dict(type='LoadImageFromFile'),
    views=dict(
        type='TestTimeAug',
        transforms=dict(
            resize=[dict(type='Resize', scale=(1400, short), keep_ratio=True) for short in (600, 800, 1000, 1200)],
            flip=[dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)],
            # For pictures; the ground truth keeps the original size.
            annotations=[dict(type='LoadAnnotations', with_bbox=True, with_mask=True)],
            pack=[
                dict(
                    type='PackDetInputs',
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
