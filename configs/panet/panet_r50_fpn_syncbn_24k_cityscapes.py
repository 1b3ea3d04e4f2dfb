_base_ = [
    '../_base_/models/panet_r50_fpn_syncbn.py',
    '../_base_/datasets/cityscapes_instance.py',
    '../_base_/schedules/schedule_24k_cityscapes.py',
    '../_base_/iteration_runtime.py',
]

# The paper's 5 scales by 3 ratios of anchors are those of COCO: one scale for each of the 5 levels.
model = dict(roi_head=dict(bbox_head=dict(num_classes=8), mask_head=dict(num_classes=8)))
default_hooks = dict(checkpoint=dict(interval=3000))
