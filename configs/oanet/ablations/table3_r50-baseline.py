_base_ = '../oanet_r50_fpn_100k_coco.py'

# Without the ranking module: instances are pasted in the order of their scores.
model = dict(
    panoptic_fusion_head=dict(
        _delete_=True,
        type='HeuristicFusion',
        num_things_classes=80,
        num_stuff_classes=53,
        score_thr=0.5,
        overlap_thr=0.5,
        stuff_area_limit=4900,
    ),
)
