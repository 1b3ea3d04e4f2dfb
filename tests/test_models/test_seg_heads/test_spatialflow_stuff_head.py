"""SpatialFlowStuffHead: sizes, labels, what is ignored, results at the original size."""

import math

import pytest
import torch
from helpers.evidence import evidence_of
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData, PixelData

from mmpanoptic.analysis.operations import count_multiply_adds
from mmpanoptic.models.fusion import HeuristicFusion
from mmpanoptic.registry import MODELS
from mmpanoptic.structures import StuffLabels, StuffLogits

META = dict(img_shape=(24, 32), ori_shape=(50, 61), batch_input_shape=(32, 32))


def head_of(**kwargs):
    small = dict(in_channels=4, inner_channels=4, norm_cfg=dict(type='GN', num_groups=2))
    return MODELS.build(dict(type='SpatialFlowStuffHead', **{**small, **kwargs}))


def feats(batch=1, channels=4):
    return tuple(torch.randn(batch, channels, size, size) for size in (4, 2, 1))


def samples(labels: torch.Tensor):
    result = []
    for its in labels:
        sample = DetDataSample()
        sample.gt_sem_seg = PixelData(sem_seg=its[None])
        result.append(sample)
    return result


@pytest.mark.parametrize(
    ('kwargs', 'total'),
    [
        (dict(), 1_335_606),
        (dict(num_things_classes=8, num_stuff_classes=11, merge_things=False), 1_331_091),
    ],
)
def test_parameters(kwargs, total):
    with torch.device('meta'):
        head = MODELS.build(dict(type='SpatialFlowStuffHead', **kwargs))
    assert sum(p.numel() for p in head.parameters()) == total


def test_shape_and_operations():
    with torch.device('meta'):
        head = MODELS.build(dict(type='SpatialFlowStuffHead'))
        x = tuple(torch.zeros(1, 256, *size) for size in ((100, 168), (50, 84), (25, 42)))
    outputs = {}
    counts = count_multiply_adds(head, lambda: outputs.update(head(x)))
    assert outputs['seg_preds'].shape == (1, 54, 200, 336)
    assert sum(counts.values()) / 1e9 == pytest.approx(12.5, abs=0.05)


def test_targets():
    labels = torch.tensor([5, 80, 132, 255])
    assert head_of()._targets(labels).tolist() == [53, 0, 52, 255]
    assert head_of(merge_things=False)._targets(labels).tolist() == [5, 80, 132, 255]


def test_first_weights():
    head = head_of(inner_channels=64, norm_cfg=dict(type='GN', num_groups=32))
    head.init_weights()
    for name, conv in head.named_modules():
        if isinstance(conv, torch.nn.Conv2d):
            fan_out = conv.out_channels * conv.kernel_size[0] ** 2
            assert conv.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.1), name
            assert conv.bias is None or not conv.bias.any()


def test_ignored_pixels_do_not_count_by_default():
    head, x = head_of(), feats()
    for parameter in head.conv_logits.parameters():
        torch.nn.init.zeros_(parameter)
    labels = torch.full((1, 32, 32), 255)
    labels[..., :3] = 90
    assert head.loss(x, samples(labels))['loss_seg'].item() == pytest.approx(0.25 * math.log(54), abs=1e-5)


def test_loss_at_zero_logits_and_without_any_label():
    head = head_of()
    for parameter in head.conv_logits.parameters():
        torch.nn.init.zeros_(parameter)
    labels = torch.randint(0, 133, (2, 32, 32))
    assert head.loss(feats(2), samples(labels))['loss_seg'].item() == pytest.approx(0.25 * math.log(54), abs=1e-5)
    nothing = torch.full((2, 32, 32), 255)
    assert head.loss(feats(2), samples(nothing))['loss_seg'].item() == 0


def test_loss_is_the_mean_over_labelled_pixels():
    head = head_of(loss_seg=dict(type='CrossEntropyLoss', ignore_index=255, avg_non_ignore=True, loss_weight=0.5))
    x = feats()
    labels = torch.randint(0, 133, (1, 32, 32))
    labels[..., 20:] = 255
    logits = torch.nn.functional.interpolate(head(x)['seg_preds'], (32, 32), mode='bilinear', align_corners=True)
    targets = head._targets(labels)[0, :, :20]
    expected = torch.nn.functional.cross_entropy(logits[..., :20], targets[None])
    assert head.loss(x, samples(labels))['loss_seg'].item() == pytest.approx(0.5 * expected.item(), rel=1e-5)

    # What the logits are where nothing is labelled does not count.
    kept = head._enlarge

    def disturbed(*args):
        result = kept(*args).clone()
        result[..., 20:] = torch.randn_like(result[..., 20:])
        return result

    head._enlarge = disturbed
    assert head.loss(x, samples(labels))['loss_seg'].item() == pytest.approx(0.5 * expected.item(), rel=1e-5)


@pytest.mark.parametrize('align_corners', [True, False])
def test_labels_are_resized_by_nearest_and_logits_bilinearly(align_corners):
    torch.manual_seed(0)
    head = head_of(align_corners=align_corners, resize='logits')
    x = feats()
    enlarge = dict(mode='bilinear', align_corners=align_corners)
    with torch.no_grad():
        logits = torch.nn.functional.interpolate(head(x)['seg_preds'], (32, 32), **enlarge)[0, :, :24]
        (result,) = head.predict(x, [META], rescale=True)
        assert isinstance(result, StuffLogits) and result.channels == 'stuff+other'
        assert torch.equal(result.logits, torch.nn.functional.interpolate(logits[None], (50, 61), **enlarge)[0])
        assert torch.equal(head.predict(x, [META])[0].logits, logits)
        head.resize = 'labels'
        (result,) = head.predict(x, [META], rescale=True)
        assert torch.equal(head.predict(x, [META])[0].labels, logits.argmax(0))
    rows, columns = torch.arange(50) * 24 // 50, torch.arange(61) * 32 // 61
    assert isinstance(result, StuffLabels)
    assert torch.equal(result.labels, logits.argmax(0)[rows][:, columns])


def test_other_is_void():
    head = head_of()
    torch.nn.init.zeros_(head.conv_logits.weight)
    head.conv_logits.bias.data[53] = 1
    with torch.no_grad():
        (stuff,) = head.predict(feats(), [META], rescale=True)
    (result,) = HeuristicFusion(stuff_area_limit=0).predict([evidence_of(InstanceData(), stuff)])
    assert (result.sem_seg == 133).all() and result.metainfo['segments_info'] == []


@pytest.mark.parametrize('resize', ['labels', 'logits'])
@pytest.mark.parametrize('num_things', [1, 3])
def test_where_a_thing_is_best_there_is_no_stuff(num_things, resize):
    """Also if things are not merged; with one thing class, all classes are as many as stuff and 'other'."""
    head = head_of(num_things_classes=num_things, num_stuff_classes=2, merge_things=False, resize=resize)
    torch.nn.init.zeros_(head.conv_logits.weight)
    fusion = HeuristicFusion(num_things, 2, stuff_area_limit=0)
    for last_thing, expected in ((5.0, num_things + 2), (0.5, num_things + 1)):
        head.conv_logits.bias.data = torch.tensor([0.0] * (num_things - 1) + [last_thing, 0, 1])
        with torch.no_grad():
            (stuff,) = head.predict(feats(), [META], rescale=True)
        (panoptic,) = fusion.predict([evidence_of(InstanceData(), stuff)])
        assert (panoptic.sem_seg == expected).all()


def test_choices_are_checked():
    with pytest.raises(ValueError, match='resize'):
        head_of(resize='probabilities')
    for ignored in (dict(), dict(ignore_index=0)):
        with pytest.raises(ValueError, match='ignore_index'):
            head_of(loss_seg=dict(type='CrossEntropyLoss', **ignored))
