# To be tested with --tta.
_base_ = ['./panet_x101-64x4d-dconv-c3-c5_fpn_syncbn_ms-160k_coco.py', '../_base_/tta/voting_coco.py']

tta_model = dict(tight_boxes=True)
