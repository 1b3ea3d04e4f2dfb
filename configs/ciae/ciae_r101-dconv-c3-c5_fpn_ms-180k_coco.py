_base_ = './ciae_r101_fpn_ms-180k_coco.py'

# Deformable convolutions in the backbone; that they are modulated is our choice.
model = dict(
    backbone=dict(
        dcn=dict(type='DCNv2', deform_groups=1, fallback_on_stride=False), stage_with_dcn=(False, True, True, True)
    )
)
