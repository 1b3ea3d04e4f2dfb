# ResNet-101 in place of a ResNet-50: a config takes this file as a further base and sets
# model = dict(backbone=_base_._resnet101).
_resnet101 = dict(
    depth=101,
    init_cfg=dict(type='Pretrained', checkpoint='https://download.pytorch.org/models/resnet101-63fe2227.pth'),
)
