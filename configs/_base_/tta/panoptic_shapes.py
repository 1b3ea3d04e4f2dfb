_base_ = './panoptic_coco.py'

# The size of training and a little around it: models that are trained at one size know textures at that size alone.
tta_pipeline = dict(
    views=dict(
        transforms=dict(
            resize=[dict(type='Resize', scale=scale, keep_ratio=True) for scale in ((288, 192), (312, 208), (264, 176))]
        )
    )
)
