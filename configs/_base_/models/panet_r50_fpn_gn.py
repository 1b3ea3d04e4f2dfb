# PANet as released. The backbone's norms are fixed, and its weights those of Caffe's ResNet-50, hence BGR.
_base_ = ['./panet-baseline_r50_fpn.py', './panet_parts_gn.py']

model = dict(
    data_preprocessor=dict(mean=[102.9801, 115.9465, 122.7717], std=[1.0, 1.0, 1.0], bgr_to_rgb=False),
    backbone=dict(
        norm_cfg=dict(requires_grad=False),
        style='caffe',
        init_cfg=dict(type='Pretrained', checkpoint='open-mmlab://detectron/resnet50_caffe'),
    ),
    **_base_._panet,
)
