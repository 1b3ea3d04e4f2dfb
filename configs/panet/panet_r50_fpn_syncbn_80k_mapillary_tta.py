# To be tested with --tta.
_base_ = ['./panet_r50_fpn_syncbn_80k_mapillary.py', '../_base_/tta/voting_coco.py']

tta_model = dict(tight_boxes=True)
tta_pipeline = dict(
    load=dict(color_type='color_ignore_orientation'),
    views=dict(
        transforms=dict(
            resize=[dict(type='Resize', scale=(2400, short), keep_ratio=True) for short in (1600, 1800, 2000)]
        )
    ),
)
