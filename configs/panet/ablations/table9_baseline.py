_base_ = [
    '../../_base_/models/panet-baseline_r50_fpn.py',
    '../../_base_/models/panet_parts_syncbn.py',  # for the row below this one
    '../../_base_/datasets/cityscapes_instance.py',
    '../../_base_/schedules/schedule_24k_cityscapes.py',
    '../../_base_/iteration_runtime.py',
]

model = dict(roi_head=dict(bbox_head=dict(num_classes=8), mask_head=dict(num_classes=8)))
default_hooks = dict(checkpoint=dict(interval=3000))
