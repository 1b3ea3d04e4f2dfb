"""PANet put together: sizes, operations, gradients, images without objects, time of the heads."""

import copy

import pytest
import torch
from helpers.models import count_parameters, on_meta
from helpers.timing import cpu_seconds
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch import nn

from mmpanoptic.registry import MODELS

GN = dict(type='GN', num_groups=32)
SYNCBN = dict(type='SyncBN')
STRIDES = [4, 8, 16, 32]


def roi_align(size):
    return dict(type='RoIAlign', output_size=size, sampling_ratio=2)


def box_head(norm, heavier=True):
    if heavier:
        fc_norm = norm if norm is SYNCBN else None  # none in released models
        return dict(
            type='AdaptivePoolingBBoxHead', num_shared_convs=4, num_shared_fcs=1, norm_cfg=norm, fc_norm_cfg=fc_norm
        )
    return dict(type='AdaptivePoolingBBoxHead', fc_norm_cfg=norm)


def panet(norm=None, heavier=True, masks=True, bottom_up_bias='auto', channels=256, classes=80, fc=1024, depth=50):
    """Config of a whole PANet with ResNet-50, or small if the numbers are."""
    widths = [channels * 2**i for i in range(4)] if depth == 50 else [64, 128, 256, 512]
    extractor = dict(type='AllLevelRoIExtractor', out_channels=channels, featmap_strides=STRIDES)
    smooth_l1 = dict(type='SmoothL1Loss', beta=1 / 3)
    roi_head = dict(
        type='StandardRoIHead',
        bbox_roi_extractor=dict(**extractor, roi_layer=roi_align(7)),
        bbox_head=dict(
            **box_head(norm, heavier),
            in_channels=channels,
            conv_out_channels=channels,
            fc_out_channels=fc,
            num_classes=classes,
            loss_bbox=smooth_l1,
        ),
    )
    if masks:
        roi_head['mask_roi_extractor'] = dict(**extractor, roi_layer=roi_align(14))
        roi_head['mask_head'] = dict(
            type='FCFusionMaskHead',
            in_channels=channels,
            conv_out_channels=channels,
            num_classes=classes,
            norm_cfg=norm,
            loss_mask=dict(type='CrossEntropyLoss', use_mask=True),
        )
    assigner = dict(type='MaxIoUAssigner', min_pos_iou=0.3, match_low_quality=True)
    sampler = dict(type='RandomSampler', neg_pos_ub=-1)
    proposals = dict(nms_pre=200, max_per_img=40, nms=dict(type='nms', iou_threshold=0.7), min_bbox_size=0)
    return dict(
        type='MaskRCNN' if masks else 'FasterRCNN',
        backbone=dict(type='ResNet', depth=depth, frozen_stages=-1),
        neck=dict(
            type='PAFPN',
            in_channels=widths,
            out_channels=channels,
            num_outs=5,
            norm_cfg=norm,
            bottom_up_bias=bottom_up_bias,
        ),
        rpn_head=dict(
            type='RPNHead',
            in_channels=channels,
            feat_channels=channels,
            anchor_generator=dict(type='AnchorGenerator', scales=[8], ratios=[0.5, 1, 2], strides=[*STRIDES, 64]),
            bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
            loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=True),
            loss_bbox=smooth_l1,
        ),
        roi_head=roi_head,
        train_cfg=dict(
            rpn=dict(
                assigner=dict(**assigner, pos_iou_thr=0.7, neg_iou_thr=0.3),
                sampler=dict(**sampler, num=64, pos_fraction=0.5, add_gt_as_proposals=False),
                allowed_border=-1,
                pos_weight=-1,
            ),
            rpn_proposal=proposals,
            rcnn=dict(
                assigner=dict(**assigner, pos_iou_thr=0.5, neg_iou_thr=0.5),
                sampler=dict(**sampler, num=16, pos_fraction=0.25, add_gt_as_proposals=True),
                mask_size=28,
                pos_weight=-1,
            ),
        ),
        test_cfg=dict(
            rpn=proposals,
            rcnn=dict(score_thr=0.0, nms=dict(type='nms', iou_threshold=0.5), max_per_img=5, mask_thr_binary=0.5),
        ),
    )


def build(config):
    init_default_scope('mmpanoptic')
    return MODELS.build(ConfigDict(copy.deepcopy(config)))


TOTALS = {
    'plain': (dict(), 73_342_912),
    'SyncBN': (dict(norm=SYNCBN), 73_352_512),
    'GN as released': (dict(norm=GN, bottom_up_bias=True), 73_352_000),
    'SyncBN 2fc': (dict(norm=SYNCBN, heavier=False), 108_816_192),
    'GN 2fc': (dict(norm=GN, heavier=False, bottom_up_bias=True), 108_817_728),
    'boxes only': (dict(norm=GN, masks=False, bottom_up_bias=True), 48_381_408),
    'boxes only 2fc': (dict(norm=GN, masks=False, heavier=False, bottom_up_bias=True), 83_847_136),
}


@pytest.mark.parametrize(('kwargs', 'total'), TOTALS.values(), ids=TOTALS)
def test_parameters_in_total(kwargs, total):
    assert count_parameters(on_meta(build, panet(**kwargs))) == total


FAMILIES = {'plain': (None, 'auto'), 'SyncBN': (SYNCBN, 'auto'), 'GN': (GN, True)}
MODULES = {  # FPN, its six new convolutions, RPN, heavier head, 2-fc head, mask head, its branch
    'plain': (3_344_384, 3_540_480, 593_935, 17_387_665, 52_844_945, 4_413_520, 20_554_896),
    'SyncBN': (3_346_432, 3_542_016, 593_935, 17_391_505, 52_855_185, 4_415_312, 20_555_280),
    'GN': (3_346_432, 3_543_552, 593_935, 17_389_457, 52_855_185, 4_415_312, 20_555_280),
}


@pytest.mark.parametrize('family', FAMILIES)
def test_parameters_by_module(family):
    norm, bias = FAMILIES[family]
    model = on_meta(build, panet(norm, bottom_up_bias=bias))
    two_fc = on_meta(build, panet(norm, heavier=False, masks=False)).roi_head.bbox_head
    neck, mask_head = model.neck, model.roi_head.mask_head
    branch = (mask_head.fc_convs, mask_head.mask_fc)
    assert MODULES[family] == (
        count_parameters(neck.lateral_convs, neck.fpn_convs),
        count_parameters(neck.downsample_convs, neck.pafpn_convs),
        count_parameters(model.rpn_head),
        count_parameters(model.roi_head.bbox_head),
        count_parameters(two_fc),
        count_parameters(mask_head) - count_parameters(*branch),
        count_parameters(*branch),
    )
    assert count_parameters(model.backbone) == 23_508_032


class Operations:
    """Counts multiply-adds of convolutions and fully-connected layers."""

    def __init__(self, *modules):
        self.total = 0
        for module in modules:
            for layer in module.modules():
                if isinstance(layer, (nn.Conv2d, nn.Linear, nn.ConvTranspose2d)):
                    layer.register_forward_hook(self.add)

    def add(self, layer, args, out):
        if isinstance(layer, nn.Linear):
            self.total += out.numel() * layer.in_features
        elif isinstance(layer, nn.ConvTranspose2d):
            self.total += args[0].numel() * layer.weight[0].numel()
        else:
            self.total += out.numel() * layer.weight[0].numel()

    def giga(self):
        return round(self.total / 1e9, 1)


def test_shapes_and_operations_of_an_800_by_1344_image():
    model = on_meta(build, panet(GN, bottom_up_bias=True))
    neck = model.neck
    counts = {
        name: Operations(*modules)
        for name, modules in dict(
            backbone=[model.backbone],
            fpn=[neck.lateral_convs, neck.fpn_convs],
            bottom_up=[neck.downsample_convs, neck.pafpn_convs],
            rpn=[model.rpn_head],
            box=[model.roi_head.bbox_head],
            mask=[model.roi_head.mask_head],
            branch=[model.roi_head.mask_head.fc_convs, model.roi_head.mask_head.mask_fc],
        ).items()
    }
    levels = model.extract_feat(torch.zeros(1, 3, 800, 1344, device='meta'))
    sizes = [(200, 336), (100, 168), (50, 84), (25, 42), (13, 21)]
    assert [level.shape for level in levels] == [(1, 256, *size) for size in sizes]
    model.rpn_head(levels)
    assert sum(len(anchors) for anchors in model.rpn_head.prior_generator.grid_priors(sizes, device='cpu')) == 268_569
    logits, deltas = model.roi_head.bbox_head(torch.zeros(1000, 4, 256, 7, 7, device='meta'))
    assert logits.shape == (1000, 81) and deltas.shape == (1000, 320)
    assert model.roi_head.mask_head(torch.zeros(100, 4, 256, 14, 14, device='meta')).shape == (100, 80, 28, 28)
    giga = {name: count.giga() for name, count in counts.items()}
    whole = sum(count.total for name, count in counts.items() if name != 'branch')
    assert giga.pop('mask') == pytest.approx(87.7 + 19.3, abs=0.1)
    assert giga == dict(backbone=87.6, fpn=60.9, bottom_up=26.0, rpn=53.1, box=215.6, branch=19.3)
    assert round(whole / 1e9, 1) == 550.2

    two_fc = on_meta(build, panet(GN, heavier=False, masks=False)).roi_head.bbox_head
    pooled = two_fc.pooling.fusion_inputs(torch.zeros(1000, 4, 256, 7, 7, device='meta'))
    assert [features.shape for features in pooled] == [(1000, 1024)] * 4
    count = Operations(two_fc)
    two_fc(torch.zeros(1000, 4, 256, 7, 7, device='meta'))
    assert count.giga() == 52.8


def sample(size, boxes):
    """An image of a size with objects in boxes."""
    instances = InstanceData(
        bboxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.arange(len(boxes)) % 2,
        masks=BitmapMasks([torch.ones(size, dtype=torch.uint8).numpy()] * len(boxes), *size),
    )
    data = DetDataSample(metainfo=dict(img_shape=size, ori_shape=size, pad_shape=size, scale_factor=(1.0, 1.0)))
    data.gt_instances = instances
    data.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
    data.set_metainfo(dict(batch_input_shape=size))
    return data


SMALL_GN = dict(type='GN', num_groups=8)
SMALL = dict(channels=32, classes=2, fc=16, depth=18)


@pytest.mark.parametrize(
    'boxes', [[[4, 4, 40, 60], [10, 30, 60, 62]], [], [[8, 8, 9, 9]]], ids=['objects', 'no object', 'tiny object']
)
@pytest.mark.parametrize('heavier', [True, False], ids=['4conv1fc', '2fc'])
@pytest.mark.parametrize('norm', [None, SMALL_GN, SYNCBN], ids=['plain', 'GN', 'SyncBN'])
def test_one_step_and_prediction(norm, heavier, boxes):
    torch.manual_seed(0)
    model = build(panet(norm, heavier, **SMALL))
    samples = [sample((64, 64), boxes), sample((64, 64), [])]
    images = torch.randn(2, 3, 64, 64)
    losses = model.train().loss(images, copy.deepcopy(samples))
    total, values = model.parse_losses(losses)
    assert set(values) >= {'loss_rpn_cls', 'loss_cls', 'loss_bbox', 'loss_mask'}
    assert total.isfinite()
    total.backward()
    missing = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert not missing
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    if boxes:
        neck_and_head = (*model.neck.parameters(), *model.roi_head.mask_head.parameters())
        assert all(parameter.grad.any() for parameter in neck_and_head)
    with torch.no_grad():
        results = model.eval().predict(images, samples)
    assert all(result.pred_instances.masks.shape == (len(result.pred_instances), 64, 64) for result in results)


@pytest.mark.parametrize('count', [0, 1])
def test_prediction_from_few_proposals(count):
    torch.manual_seed(0)
    model = build(panet(SMALL_GN, **SMALL)).eval()
    proposals = InstanceData(bboxes=torch.tensor([[4.0, 4, 40, 60]])[:count], scores=torch.ones(count))
    with torch.no_grad():
        features = model.extract_feat(torch.randn(1, 3, 64, 64))
        (result,) = model.roi_head.predict(features, [proposals], [sample((64, 64), [])])
    assert (len(result) > 0) == (count > 0)
    assert result.masks.shape == (len(result), 64, 64)


@pytest.mark.parametrize('norm', [None, SMALL_GN])
def test_rpn_sees_augmented_levels(norm):
    torch.manual_seed(0)
    model = build(panet(norm, **SMALL)).eval()
    seen = []
    model.rpn_head.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        outs = model.extract_feat(torch.randn(1, 3, 64, 64))
        model.rpn_head.predict(outs, [sample((64, 64), [])])
    assert all(a is b for a, b in zip(seen[0], outs, strict=True))
    assert torch.equal(outs[4], outs[3][..., ::2, ::2])


def heads_and_inputs(boxes, masks):
    """PANet's and the FPN baseline's RoI heads, with the features of as many RoIs."""
    baseline = [
        MODELS.build(dict(type='Shared2FCBBoxHead', in_channels=256, num_classes=80)),
        MODELS.build(dict(type='FCNMaskHead', num_classes=80)),
    ]
    ours = [
        MODELS.build(dict(**box_head(GN), in_channels=256, num_classes=80)),
        MODELS.build(dict(type='FCFusionMaskHead', num_classes=80, norm_cfg=GN)),
    ]
    flat = [torch.randn(boxes, 256, 7, 7), torch.randn(masks, 256, 14, 14)]
    # As AllLevelRoIExtractor lays them out.
    deep = [features.expand(4, *features.shape).clone().transpose(0, 1) for features in flat]
    return (ours, deep), (baseline, flat)


@torch.no_grad()
def forward(heads, inputs):
    for head, x in zip(heads, inputs, strict=True):
        head(x)


@pytest.mark.slow
@pytest.mark.timing
@pytest.mark.usefixtures('one_thread')
def test_time_of_the_heads_follows_their_operations():
    """512 box and 128 mask RoIs, the numbers of a training step; forward, without RoIAlign."""
    pairs = heads_and_inputs(boxes=512, masks=128)
    operations = []
    for heads, inputs in pairs:
        count = Operations(*heads)
        forward(heads, inputs)  # a warm-up as well
        operations.append(count.total)
    rounds = [[cpu_seconds(forward, *pair) for pair in pairs] for _ in range(2)]
    best = [min(times) for times in zip(*rounds, strict=True)]
    times, counts = best[0] / best[1], operations[0] / operations[1]
    print(f'PANet heads {best[0]:.2f} s, FPN baseline {best[1]:.2f} s: {times:.2f} , multiply-adds {counts:.2f}')
    assert times <= 1.2 * counts
