"""SpatialFlowHead: numbers worked out by hand, the authors' own outputs, sizes and operations."""

from itertools import product

import numpy as np
import pytest
import torch
from helpers.models import count_parameters, on_meta
from mmcv.ops import modulated_deform_conv2d
from mmdet.structures import DetDataSample
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import nn

from mmpanoptic.analysis.operations import count_multiply_adds
from mmpanoptic.models.dense_heads import SpatialFlowHead, SpatialFlowOutputs
from mmpanoptic.registry import MODELS

NO_FLOWS = dict(reg2cls=False, reg2stuff=False, reg2thing=False, stuff2thing=False)
DEFORMABLE = ('cls', 'stuff', 'thing')
LEVELS = [(100, 168), (50, 84), (25, 42), (13, 21), (7, 11)]
FOCAL = dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25)


def head_of(channels=256, num_classes=80, **kwargs) -> SpatialFlowHead:
    config = dict(type='SpatialFlowHead', num_classes=num_classes, in_channels=channels, feat_channels=channels)
    return MODELS.build(dict(**config, loss_cls=FOCAL, **kwargs))


def set_gains(convs: nn.ModuleList, gain: float) -> None:
    """Every convolution multiplies by ``gain`` what is at its centre."""
    for conv in convs:
        nn.init.zeros_(conv.conv.bias)
        nn.init.zeros_(conv.conv.weight)
        conv.conv.weight.data[..., 1, 1] = gain


GAINS = dict(
    reg=2, cls=3, stuff=3, mask=2, cls_spatial_flow=3, stuff_spatial_flow=3, mask_spatial_flow=7, stuff_mask_flow=5
)


def gained(flow_source='reg', **gains) -> SpatialFlowHead:
    """One channel; the head gives its features as logits and deltas."""
    head = head_of(channels=1, num_classes=1, flow_source=flow_source)
    for name, gain in {**GAINS, **gains}.items():
        if hasattr(head, f'{name}_convs'):
            set_gains(getattr(head, f'{name}_convs'), gain)
    for last in (head.retina_cls, head.retina_reg):
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        last.weight.data[..., 1, 1] = 1
    return head


def ones(channels=1) -> list[torch.Tensor]:
    return [torch.ones(1, channels, size, size) for size in (16, 8, 4, 2, 1)]


def stages_of(head: SpatialFlowHead, name: str) -> tuple[list[float], SpatialFlowOutputs]:
    """Means of what each convolution of a list gives, and the outputs of the head."""
    seen = []
    handles = [conv.register_forward_hook(lambda *a: seen.append(a[2].mean().item())) for conv in getattr(head, name)]
    outputs = head(ones())
    for handle in handles:
        handle.remove()
    return seen[: len(handles)], outputs


def test_flow_carries_the_same_stage_into_the_convolution():
    head = gained()
    assert stages_of(head, 'reg_convs')[0] == [2, 4, 8, 16]
    stages, outputs = stages_of(head, 'cls_convs')
    assert stages == [21, 99, 369, 1251]
    assert [level.unique().tolist() for level in outputs[0]] == [[1251]] * 5
    assert [level.unique().tolist() for level in outputs[1]] == [[16]] * 5


@pytest.mark.parametrize('panoptic_levels', [3, 2, 0])
def test_outputs_are_named(panoptic_levels):
    head = head_of(channels=2, num_classes=5, num_panoptic_levels=panoptic_levels)
    sizes = [(8, 12), (4, 6), (2, 3), (1, 2), (1, 1)]
    outputs = head([torch.zeros(3, 2, *size) for size in sizes])
    assert isinstance(outputs, SpatialFlowOutputs)
    assert outputs._fields == ('cls_scores', 'bbox_preds', 'thing_feats', 'stuff_feats')
    anchors = head.num_base_priors
    assert [level.shape for level in outputs.cls_scores] == [(3, anchors * 5, *size) for size in sizes]
    assert [level.shape for level in outputs.bbox_preds] == [(3, anchors * 4, *size) for size in sizes]
    for feats in (outputs.thing_feats, outputs.stuff_feats):
        assert [level.shape for level in feats] == [(3, 2, *size) for size in sizes[:panoptic_levels]]


def test_flow_has_no_activation():
    assert stages_of(gained(cls_spatial_flow=-3), 'cls_convs')[0][0] == 0


def test_things_get_the_last_of_stuff_and_regression():
    cls_scores, bbox_preds, thing, stuff = gained()(ones())
    assert [len(levels) for levels in (cls_scores, bbox_preds, thing, stuff)] == [5, 5, 3, 3]
    assert [level.unique().tolist() for level in stuff] == [[1251]] * 3
    assert [level.unique().tolist() for level in thing] == [[12736]] * 3


def test_coarse_levels_have_the_flow_to_classes():
    without = gained(cls_spatial_flow=0)(ones())[0]
    assert [level.unique().item() for level in without] == [81] * 5


def test_gradient_of_stuff_reaches_regression():
    head = gained()
    head(ones())[3][0].sum().backward()
    assert all(conv.conv.weight.grad.any() for conv in head.reg_convs)


def test_flows_from_classification():
    head = gained('cls')
    set_gains(head.reg_spatial_flow_convs, 1)
    cls_scores, bbox_preds, _, stuff = head(ones())
    assert cls_scores[4].unique().item() == 81, 'no flow enters the source'
    # reg: 2(1+3)=8, 2(8+9)=34, 2(34+27)=122, 2(122+81)=406; stuff: 3(1+9)=30, 3(30+27)=171, 3(171+81)=756, 3(756+243)
    assert bbox_preds[4].unique().item() == 406
    assert stuff[2].unique().item() == 2997


@pytest.mark.parametrize(
    ('stages', 'flows', 'expected'),
    [
        # stuff aligned to the last stages of regression, 8 and 16
        (dict(num_stuff_stages=2), {}, dict(stuff=[3 * (3 * (1 + 24) + 48)])),
        # without stages: x + 3 * 16, and x + 5 * stuff + 7 * 16
        (dict(num_stuff_stages=0, num_thing_stages=0), {}, dict(stuff=[49], thing=[1 + 5 * 49 + 112])),
        (dict(num_stuff_stages=0, num_thing_stages=0), NO_FLOWS, dict(stuff=[1], thing=[1])),
        # two thing stages, at the third and the fourth of stuff: 369, 1251
        (
            dict(num_thing_stages=2),
            {},
            dict(thing=[2 * (2 * (1 + 5 * 369 + 7 * 8) + 5 * 1251 + 7 * 16)]),
        ),
        # psi for as many of the last thing stages as stuff has
        (
            dict(num_stuff_stages=1, num_thing_stages=2),
            dict(reg2thing=False),
            dict(stuff=[3 * 49], thing=[2 * (2 + 5 * 147)]),
        ),
    ],
)
def test_number_of_stages(stages, flows, expected):
    head = head_of(channels=1, num_classes=1, flows=flows, **stages)
    for name, gain in GAINS.items():
        set_gains(getattr(head, f'{name}_convs'), gain)
    outputs = head(ones())
    for name, value in expected.items():
        assert outputs[dict(thing=2, stuff=3)[name]][0].unique().tolist() == value


@pytest.mark.parametrize('source', ['reg', 'cls'])
@pytest.mark.parametrize(('num_stuff', 'num_thing'), [(4, 1), (0, 0), (0, 4), (1, 3)])
def test_every_parameter_learns(num_stuff, num_thing, source):
    """Whichever flows there are: a parameter without gradient would stop distributed training."""
    torch.manual_seed(0)
    x = [torch.rand(1, 2, size, size) for size in (8, 4, 2, 1, 1)]
    for choice in product([True, False], repeat=4):
        flows = dict(zip(NO_FLOWS, choice, strict=True))
        stages = dict(num_stuff_stages=num_stuff, num_thing_stages=num_thing)
        head = head_of(channels=2, num_classes=1, flows=flows, flow_source=source, **stages)
        for parameter in head.parameters():
            nn.init.uniform_(parameter)  # positive: no ReLU is closed
        sum(level.sum() for levels in head(x) for level in levels).backward()
        without = [name for name, p in head.named_parameters() if p.grad is None or not p.grad.any()]
        assert not without, (flows, without)


def test_without_panoptic_levels_there_is_no_more_than_the_flow_to_classes():
    assert (
        len(on_meta(head_of, num_panoptic_levels=0, stacked_convs=2).cls_convs) == 2
    )  # fewer than stuff would have stages
    head = on_meta(head_of, num_panoptic_levels=0)
    names = {name.split('.')[0] for name, _ in head.named_parameters()}
    assert names == {'cls_convs', 'reg_convs', 'cls_spatial_flow_convs', 'retina_cls', 'retina_reg'}
    outputs = head([torch.zeros(1, 256, *size, device='meta') for size in LEVELS])
    assert [len(levels) for levels in outputs] == [5, 5, 0, 0]


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(flows=dict(reg2mask=True)), 'flows has no reg2mask'),
        (dict(flow_source='stuff'), 'flow_source'),
        (dict(num_stuff_stages=5), 'num_stuff_stages 5'),
        (dict(deformable=['reg']), "'reg' gets no flow"),
        (dict(deformable=['thing'], num_thing_stages=0), 'thing has no stages'),
        (dict(deformable=['stuff'], num_panoptic_levels=0), 'no stuff sub-network'),
        (dict(deformable=['cls'], norm_cfg=dict(type='BN')), 'have no norm'),
        (dict(conv_cfg=dict(type='DCNv2')), 'conv_cfg'),
        (dict(stacked_convs=0), 'stacked_convs'),
        (dict(num_panoptic_levels=-1), 'num_panoptic_levels -1'),
    ],
)
def test_choices_are_checked(kwargs, message):
    with pytest.raises(ValueError, match=message):
        head_of(channels=1, num_classes=1, **kwargs)
    with pytest.raises(ValueError, match='must be the same'):
        MODELS.build(dict(type='SpatialFlowHead', num_classes=1, in_channels=2, feat_channels=1, loss_cls=FOCAL))


# What is deformable.


def deformable_head() -> SpatialFlowHead:
    torch.manual_seed(0)
    head = head_of(channels=2, num_classes=1, deformable=DEFORMABLE)
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=0.3)
    return head


def test_deformable_stage_without_flow_is_half_a_convolution():
    head = deformable_head()
    for parameter in head.cls_spatial_flow_convs[0].parameters():
        nn.init.zeros_(parameter)
    x, reg = torch.randn(2, 1, 2, 5, 5)
    conv = head.cls_convs[0].conv
    expected = (0.5 * nn.functional.conv2d(x, conv.weight, padding=1) + conv.bias[:, None, None]).relu()
    assert torch.allclose(head._advance('cls', 0, x, reg), expected, atol=1e-6)
    assert torch.allclose(head._advance('cls', 0, x, 7 * reg), expected, atol=1e-6)


def test_offsets_of_things_do_not_depend_on_stuff():
    head = deformable_head()
    x, reg, stuff = torch.randn(3, 1, 2, 5, 5)
    stuff.requires_grad_()
    flows = []
    head.mask_spatial_flow_convs[0].register_forward_hook(lambda *a: flows.append(a[2]))
    thing = head._advance('thing', 0, x, reg, stuff)
    (flow,) = flows
    assert flow.shape[1] == 27
    assert torch.autograd.grad(flow.sum(), stuff, allow_unused=True) == (None,)

    phi, psi, conv = head.mask_spatial_flow_convs[0], head.stuff_mask_flow_convs[0], head.mask_convs[0].conv

    def expected(flow):
        offsets, mask = flow[:, :18].contiguous(), flow[:, 18:].sigmoid()
        return modulated_deform_conv2d(x + psi(stuff), offsets, mask, conv.weight, conv.bias, 1, 1, 1, 1, 1).relu()

    assert torch.allclose(thing, expected(phi(x + reg)), atol=1e-6)
    assert not torch.allclose(thing, expected(phi(x + psi(stuff) + reg)), atol=1e-3)


def test_deformable_stages_have_offsets_without_a_flow_too():
    head = head_of(channels=2, num_classes=1, deformable=['stuff'], flows=NO_FLOWS)
    assert [len(head.stuff_spatial_flow_convs), len(head.cls_spatial_flow_convs)] == [4, 0]
    assert head.stuff_spatial_flow_convs[0].conv.out_channels == 27
    x = torch.randn(1, 2, 5, 5)
    assert torch.equal(head._advance('stuff', 0, x, x), head._advance('stuff', 0, x, 2 * x))


# Sizes, operations, values.

SIZES = {
    'full': (dict(), 15_314_420, 340.6),
    'deformable': (dict(deformable=DEFORMABLE), 10_563_815, None),
    'RetinaNet': (dict(num_panoptic_levels=0, flows=NO_FLOWS), 8 * 590_080 + 1_659_600 + 82_980, 144.7),
    'reg2cls': (dict(num_panoptic_levels=0), 12 * 590_080 + 1_659_600 + 82_980, 197.56),
    'sub-networks': (dict(flows=NO_FLOWS), 13 * 590_080 + 1_659_600 + 82_980, 144.7 + 65.0),
}


@pytest.mark.parametrize(('kwargs', 'total', 'giga'), SIZES.values(), ids=SIZES)
def test_parameters_shapes_and_operations_at_800_by_1344(kwargs, total, giga):
    head = on_meta(head_of, **kwargs)
    assert count_parameters(head) == total
    x = [torch.zeros(1, 256, *size, device='meta') for size in LEVELS]
    if giga is None:
        return
    outputs = []
    counts = count_multiply_adds(head, lambda: outputs.extend(head(x)))
    assert sum(counts.values()) / 1e9 == pytest.approx(giga, abs=0.06)
    cls_scores, bbox_preds, thing, stuff = outputs
    assert [level.shape for level in cls_scores] == [(1, 720, *size) for size in LEVELS]
    assert [level.shape for level in bbox_preds] == [(1, 36, *size) for size in LEVELS]
    assert [level.shape for level in thing + stuff] == [(1, 256, *size) for size in LEVELS[: len(thing)]] * 2
    assert sum(len(priors) for priors in head.prior_generator.grid_priors(LEVELS, device='cpu')) == 201_600


@pytest.mark.parametrize('deformable', [(), DEFORMABLE])
def test_first_weights(deformable):
    head = head_of(channels=16, num_classes=2, deformable=deformable)
    head.init_weights()
    for name, parameter in head.named_parameters():
        if name.endswith('weight'):
            assert parameter.std().item() == pytest.approx(0.01, rel=0.1), name
        elif 'retina_cls' in name:
            assert parameter.unique().item() == pytest.approx(-4.59512, abs=1e-5)
        else:
            assert not parameter.any()


def test_the_authors_outputs(shared_data):
    data = np.load(shared_data / 'golden/spatialflow_head_plain.npz')
    head = head_of(channels=32, num_classes=7)
    head.load_state_dict({k[3:]: torch.from_numpy(data[k]) for k in data.files if k.startswith('sd/')}, strict=True)
    with torch.no_grad():
        outputs = head([torch.from_numpy(data[f'in/{level}']) for level in range(5)])
    theirs = dict(cls_scores='cls', bbox_preds='bbox', thing_feats='mask', stuff_feats='stuff')
    for ours, name in theirs.items():
        levels = getattr(outputs, ours)
        for level, output in enumerate(levels):
            expected = torch.from_numpy(data[f'out/{name}/{level}'])
            assert (output - expected).abs().max() <= 1e-4 * expected.abs().max()


def with_sample() -> tuple[SpatialFlowHead, list[torch.Tensor], list[DetDataSample]]:
    """A head with thresholds, features of five levels, and an image with one object."""
    torch.manual_seed(0)
    train_cfg = ConfigDict(
        assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0, ignore_iof_thr=-1),
        allowed_border=-1,
        pos_weight=-1,
    )
    test_cfg = ConfigDict(
        nms_pre=10, min_bbox_size=0, score_thr=0.0, nms=dict(type='nms', iou_threshold=0.4), max_per_img=3
    )
    head = head_of(channels=2, num_classes=2, num_panoptic_levels=0, train_cfg=train_cfg, test_cfg=test_cfg)
    sample = DetDataSample(metainfo=dict(img_shape=(64, 64), pad_shape=(64, 64), scale_factor=(2.0, 2.0)))
    sample.gt_instances = InstanceData(bboxes=torch.tensor([[4.0, 4, 40, 40]]), labels=torch.tensor([1]))
    return head, [torch.randn(1, 2, size, size) for size in (8, 4, 2, 1, 1)], [sample]


def test_losses_and_boxes():
    head, x, samples = with_sample()
    losses = head.loss(x, samples)
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in head.parameters())
    (small,) = head.predict(x, samples)
    (large,) = head.predict(x, samples, rescale=True)
    assert len(small) == 3 and torch.allclose(small.bboxes, large.bboxes * 2)
    assert not small.bboxes.requires_grad


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_anchors_are_exact_in_half_precision(dtype):
    head, _, samples = with_sample()
    size = (1400, 1600)
    samples[0].set_metainfo(dict(img_shape=size, pad_shape=size))
    outputs = [
        [torch.randn(1, channels, size[0] // stride, size[1] // stride).to(dtype) for stride in (8, 16, 32, 64, 128)]
        for channels in (18, 36)
    ]
    exact = [[level.float() for level in levels] for levels in outputs]
    values = [SpatialFlowOutputs(*levels, [], []) for levels in (outputs, exact)]
    cfg = ConfigDict(head.test_cfg, nms_pre=100, max_per_img=100)
    (half,), (single,) = (head.detect(its, [samples[0].metainfo], cfg) for its in values)
    assert len(half) == 100 and half.bboxes.amax() > 1024  # above, float16 has every second number, bfloat16 every 16th
    for key in ('bboxes', 'scores', 'labels'):
        assert torch.equal(half[key], single[key])


def test_flows_that_are_0_change_no_loss():
    """The sub-networks' own weights decide about the first losses, whether there are flows or not."""
    _, x, samples = with_sample()
    losses = []
    for flows in (None, NO_FLOWS):
        head = head_of(channels=2, num_classes=2, flows=flows, train_cfg=with_sample()[0].train_cfg)
        for name, parameter in head.named_parameters():
            torch.manual_seed(len(name))
            nn.init.normal_(parameter, std=0.0 if '_flow_convs' in name else 0.3)
        losses.append({key: loss.item() for key, loss in head.loss(x, samples).items()})
    assert losses[0] == losses[1]
    assert losses[0]['loss_cls'] > 0


def test_losses_and_boxes_of_one_pass():
    head, x, samples = with_sample()
    losses, (boxes,) = head.loss_and_predict(x, samples, ConfigDict(head.test_cfg, max_per_img=2))
    for name, loss in head.loss(x, samples).items():
        assert losses[name].item() == loss.item()
    assert torch.equal(boxes.bboxes, head.predict(x, samples)[0].bboxes[:2])
