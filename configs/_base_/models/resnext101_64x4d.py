# ResNeXt-101 64x4d in place of a ResNet-50: a config takes this file as a further base and sets
# model = dict(backbone=_base_._resnext101_64x4d).
_resnext101_64x4d = dict(
    type='ResNeXt',
    depth=101,
    groups=64,
    base_width=4,
    init_cfg=dict(checkpoint='https://download.pytorch.org/models/resnext101_64x4d-173b62eb.pth'),
)
