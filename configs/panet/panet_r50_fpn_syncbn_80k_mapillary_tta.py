# To be tested with --tta.
_base_ = ['./panet_r50_fpn_syncbn_80k_mapillary.py', '../_base_/tta/voting_coco.py']

tta_model = dict(tight_boxes=True)
tta_pipeline = _base_.tta_pipeline
tta_pipeline[0] = _base_.image_loader
tta_pipeline[1].transforms[0] = [
    dict(type='Resize', scale=(2400, short), keep_ratio=True) for short in (1600, 1800, 2000)
]
