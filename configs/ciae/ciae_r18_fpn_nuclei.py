_base_ = [
    '../_base_/models/ciae_r18_fpn_small.py',
    '../_base_/datasets/nuclei_panoptic.py',
    '../_base_/schedules/schedule_nuclei.py',
    '../_base_/default_runtime.py',
]
default_hooks = dict(logger=dict(interval=10))

num_things_classes = 1
num_stuff_classes = 1
model = dict(
    bbox_head=dict(num_classes=num_things_classes),
    semantic_head=dict(
        num_things_classes=num_things_classes,
        num_stuff_classes=num_stuff_classes,
        # Every second pixel, in x and y: embeddings are interpolated from stride 4 anyway, and with a hundred nuclei an
        # image the loss would take most of the time.
        loss=dict(stride=2),
    ),
    panoptic_fusion_head=dict(
        num_things_classes=num_things_classes, num_stuff_classes=num_stuff_classes, stuff_area_limit=64
    ),
    # Nuclei are many.
    test_cfg=dict(nms_pre=1000, max_per_img=300),
)

# As on Shapes, for the reasons given there.
optim_wrapper = dict(optimizer=dict(lr=2e-3), paramwise_cfg=dict(custom_keys={'bbox_head.scales': dict(lr_mult=10.0)}))

del num_things_classes, num_stuff_classes
