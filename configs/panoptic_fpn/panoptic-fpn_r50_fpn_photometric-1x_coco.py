_base_ = [
    '../_base_/models/panoptic-fpn_r50_fpn.py',
    '../_base_/datasets/coco_panoptic_photometric.py',
    '../_base_/schedules/schedule_1x.py',
    '../_base_/default_runtime.py',
]
