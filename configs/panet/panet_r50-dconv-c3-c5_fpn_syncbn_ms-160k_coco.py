_base_ = './panet_r50_fpn_syncbn_ms-160k_coco.py'

model = dict(
    backbone=dict(
        dcn=dict(type='DCN', deform_groups=1, fallback_on_stride=False), stage_with_dcn=(False, True, True, True)
    )
)
