_base_ = [
    '../_base_/models/spatialflow_r18_fpn_small.py',
    '../_base_/datasets/nuclei_panoptic.py',
    '../_base_/schedules/schedule_nuclei.py',
    '../_base_/default_runtime.py',
]
default_hooks = dict(logger=dict(interval=10))

num_things_classes = 1
num_stuff_classes = 1
model = dict(
    bbox_head=dict(num_classes=num_things_classes),
    mask_head=dict(num_classes=num_things_classes),
    semantic_head=dict(num_things_classes=num_things_classes, num_stuff_classes=num_stuff_classes),
    panoptic_fusion_head=dict(
        num_things_classes=num_things_classes, num_stuff_classes=num_stuff_classes, stuff_area_limit=64
    ),
    # Nuclei are many.
    train_cfg=dict(proposal=dict(nms_pre=1000, max_per_img=300)),
    test_cfg=dict(nms_pre=1000, max_per_img=300),
)

del num_things_classes, num_stuff_classes
