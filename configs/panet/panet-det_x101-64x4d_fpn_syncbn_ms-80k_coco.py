_base_ = './panet-det_r50_fpn_syncbn_ms-80k_coco.py'

model = dict(
    backbone=dict(
        type='ResNeXt',
        depth=101,
        groups=64,
        base_width=4,
        init_cfg=dict(checkpoint='https://download.pytorch.org/models/resnext101_64x4d-173b62eb.pth'),
    )
)
