_base_ = [
    '../_base_/models/spatialflow_r50_fpn.py',
    '../_base_/datasets/coco_panoptic.py',
    '../_base_/schedules/schedule_20e.py',
    '../_base_/default_runtime.py',
]
