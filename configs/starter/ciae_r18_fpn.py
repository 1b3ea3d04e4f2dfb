_base_ = [
    '../_base_/models/ciae_r18_fpn_small.py',
    '../_base_/models/classes_of_data.py',
    '../_base_/datasets/own_panoptic.py',
    '../_base_/schedules/schedule_own.py',
]

model = _base_._ciae
model.panoptic_fusion_head.update(stuff_area_limit=256)
# As on Shapes: the factors of the box distances are five numbers, and would hardly move at the rate of the others.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'bbox_head.scales': dict(lr_mult=10.0)}))
