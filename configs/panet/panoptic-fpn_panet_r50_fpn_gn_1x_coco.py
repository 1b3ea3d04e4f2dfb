_base_ = [
    '../_base_/models/panoptic-fpn_r50_fpn.py',
    '../_base_/models/panet_parts_gn.py',
    '../_base_/datasets/coco_panoptic.py',
    '../_base_/schedules/schedule_1x.py',
    '../_base_/default_runtime.py',
]

# The semantic branch, too, sees the levels behind the bottom-up path.
model = _base_._panet
