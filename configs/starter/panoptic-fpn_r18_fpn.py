_base_ = [
    '../_base_/models/panoptic-fpn_r18_fpn_small.py',
    '../_base_/models/classes_of_data.py',
    '../_base_/datasets/own_panoptic.py',
    '../_base_/schedules/schedule_own.py',
]

model = _base_._two_stage
model.panoptic_fusion_head.update(stuff_area_limit=256)
