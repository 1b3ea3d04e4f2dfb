# Panoptic FPN with PANet's neck and heads whose instances are ordered by OANet's ranking module.
_base_ = ['./panoptic-fpn_r50_fpn_ranking_1x_coco.py', '../_base_/models/panet_parts_gn.py']

# The semantic branch, too, sees the levels behind the bottom-up path.
model = _base_._panet
