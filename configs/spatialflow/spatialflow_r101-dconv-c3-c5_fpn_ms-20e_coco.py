_base_ = ['./spatialflow_r101_fpn_20e_coco.py', '../_base_/tta/panoptic_coco.py']

# Deformable convolutions, modulated as in the released code, in the backbone and in the sub-networks that get a flow.
model = dict(
    backbone=dict(
        dcn=dict(type='DCNv2', deform_groups=1, fallback_on_stride=False), stage_with_dcn=(False, True, True, True)
    ),
    bbox_head=dict(deformable=('cls', 'stuff', 'thing')),
)

train_dataloader = dict(
    dataset=dict(
        pipeline=dict(
            resize=dict(_delete_=True, type='RandomResize', scale=[(1600, 400), (1600, 1400)], keep_ratio=True)
        )
    )
)

optim_wrapper = dict(type='AmpOptimWrapper', loss_scale=512.0)
