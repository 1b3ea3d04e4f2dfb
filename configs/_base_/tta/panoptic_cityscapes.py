_base_ = './panoptic_coco.py'

# Unverified: the paper's scales for Cityscapes could not be read.
tta_pipeline = dict(
    views=dict(
        transforms=dict(
            resize=[
                dict(type='Resize', scale=scale, keep_ratio=True) for scale in ((2048, 1024), (1536, 768), (2560, 1280))
            ]
        )
    )
)
