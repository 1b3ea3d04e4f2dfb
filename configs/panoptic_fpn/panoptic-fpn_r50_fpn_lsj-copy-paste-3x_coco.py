_base_ = [
    '../_base_/models/panoptic-fpn_r50_fpn.py',
    '../_base_/datasets/coco_panoptic_lsj_copy_paste.py',
    '../_base_/schedules/schedule_3x.py',
    '../_base_/default_runtime.py',
]
