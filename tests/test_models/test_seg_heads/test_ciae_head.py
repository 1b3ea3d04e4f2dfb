"""CIAEHead: parameters, operations, sizes, queries, losses in each of its modes."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.logging import MessageHub
from mmengine.structures import InstanceData, PixelData

from mmpanoptic.analysis.operations import count_multiply_adds
from mmpanoptic.models.layers import CoordConvModule
from mmpanoptic.models.losses.ciae_targets import embedding_targets
from mmpanoptic.models.seg_heads import CIAEOutputs
from mmpanoptic.registry import MODELS

T, S = 2, 3


def head_of(**kwargs):
    small = dict(
        num_things_classes=T,
        num_stuff_classes=S,
        in_channels=8,
        inner_channels=8,
        embedding_dims=6,
        box_embedding_dims=4,
        norm_cfg=dict(type='GN', num_groups=2),
    )
    head = MODELS.build(dict(type='CIAEHead', **{**small, **kwargs}))
    head.init_weights()
    return head


def feats(batch=2, size=(32, 64), channels=8):
    return tuple(torch.randn(batch, channels, size[0] // s, size[1] // s) for s in (4, 8, 16, 32))


def box_embeddings(batch=2, size=(32, 64), channels=4):
    return tuple(torch.randn(batch, channels, -(-size[0] // s), -(-size[1] // s)) for s in (8, 16, 32, 64, 128))


def samples(size=(32, 64)):
    """Two images of different size in a padded batch, one with two instances and a crowd, one without things."""
    result = []
    for index, (height, width) in enumerate([size, (24, 40)]):
        labels = torch.full(size, 255, dtype=torch.uint8)
        labels[:height, :width] = torch.randint(T, T + S, (height, width))
        masks = np.zeros((2 * (index == 0), *size), np.uint8)
        boxes = torch.zeros(len(masks), 4)
        if index == 0:
            masks[0, 4:12, 8:20] = masks[1, 16:30, 30:50] = 1
            labels[4:12, 8:20], labels[16:30, 30:50], labels[:3, :3] = 0, 1, 1
            boxes = torch.tensor([[8.0, 4.0, 20.0, 12.0], [30.0, 16.0, 50.0, 30.0]])
        sample = DetDataSample(metainfo=dict(img_shape=(height, width), batch_input_shape=size))
        sample.gt_sem_seg = PixelData(sem_seg=labels[None])
        sample.gt_instances = InstanceData(
            bboxes=boxes, labels=torch.arange(len(masks)), masks=BitmapMasks(masks, *size)
        )
        result.append(sample)
    return result


def count(module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_parameters():
    with torch.device('meta'):
        head = MODELS.build(dict(type='CIAEHead'))
        first = MODELS.build(dict(type='CIAEHead', coord_conv='first'))
        plain = MODELS.build(dict(type='CIAEHead', coord_conv=None, box_embedding_dims=0))
        spec = MODELS.build(dict(type='CIAEHead', thing_categories='spec'))
        none = MODELS.build(dict(type='CIAEHead', thing_categories='none'))
        semseg = MODELS.build(dict(type='CIAEHead', stuff_modeling='semseg'))
        swapped = MODELS.build(dict(type='CIAEHead', embedding_kernel=3, box_embedding_kernel=1))
    assert count(head.level_convs) == 1_630_720
    assert count(first.level_convs) == 1_626_112
    assert count(plain.level_convs) == 1_630_720 - 3 * 2 * 9 * 128
    assert (count(head.conv_embedding), count(head.conv_box_embedding)) == (4_128, 9_248)
    assert (count(swapped.conv_embedding), count(swapped.conv_box_embedding)) == (36_896, 1_056)
    assert count(head) == 1_630_720 + 4_128 + 9_248, 'the memory is no parameter'
    assert count(semseg) == count(head) + 128 * 54 + 54
    assert [its.memory.embeddings.shape for its in (head, spec, none)] == [(54, 32), (133, 32), (53, 32)]
    assert semseg.memory is None
    assert plain.conv_box_embedding is None


def test_operations():
    """Those of numbers.md at 800x1344: 31.9 G the branch, .9 G the rest."""
    with torch.device('meta'):
        head = MODELS.build(dict(type='CIAEHead'))
        x = tuple(torch.zeros(1, 256, *size) for size in ((200, 336), (100, 168), (50, 84), (25, 42)))
        boxes = tuple(torch.zeros(1, 32, *size) for size in ((100, 168), (50, 84), (25, 42), (13, 21), (7, 11)))
    outputs = []
    counts = count_multiply_adds(head, lambda: outputs.append(head(x, boxes)))
    assert outputs[0][0].shape == (1, 32, 200, 336)
    assert sum(counts.values()) / 1e9 == pytest.approx(31.9 + 0.9, abs=0.1)


def test_initial_weights():
    head = MODELS.build(dict(type='CIAEHead'))
    head.init_weights()
    convs = [module for module in head.modules() if isinstance(module, torch.nn.Conv2d)]
    assert len(convs) == 9
    for conv in convs:
        assert conv.weight.std().item() == pytest.approx(0.01, rel=0.1)


def test_coordinates():
    """A convolution that only passes its last two channels gives them: x, then y."""
    conv = CoordConvModule(3, 2, 1, norm_cfg=None, act_cfg=None, bias=False)
    with torch.no_grad():
        conv.conv.weight.zero_()
        conv.conv.weight[0, 3] = conv.conv.weight[1, 4] = 1
    x, y = conv(torch.randn(2, 3, 5, 3))[1]
    assert torch.allclose(x, torch.tensor([-1.0, 0.0, 1.0]).expand(5, 3))
    assert torch.allclose(y, torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0])[:, None].expand(5, 3))


@pytest.mark.parametrize(('coord_conv', 'expected'), [('all', [True] * 3), ('first', [True, False, False]), (None, [])])
def test_only_the_coarsest_level_sees_coordinates(coord_conv, expected):
    levels = head_of(coord_conv=coord_conv).level_convs
    assert [isinstance(conv, CoordConvModule) for conv in levels[3]] == (expected or [False] * 3)
    assert not any(isinstance(conv, CoordConvModule) for level in levels[:3] for conv in level)
    assert [len(level) for level in levels] == [1, 1, 2, 3]
    assert all(isinstance(conv, ConvModule) for level in levels for conv in level)


def test_forward():
    head = head_of()
    x, boxes = feats(), box_embeddings()
    outputs = head(x, boxes)
    assert isinstance(outputs, CIAEOutputs) and outputs._fields == ('embedding', 'semantic')
    embedding = outputs.embedding
    assert embedding.shape == (2, 6, 8, 16)
    assert outputs.semantic is None
    alone, _ = head(tuple(level[1:] for level in x), tuple(level[1:] for level in boxes))
    assert torch.allclose(alone, embedding[1:], atol=1e-6)
    without, _ = head_of(box_embedding_dims=0)(x)
    assert without.shape == embedding.shape
    with pytest.raises(ValueError, match='no box embeddings'):
        head(x)


@pytest.mark.parametrize('kernel', [1, 3])
def test_forward_written_out(kernel):
    """Doublings up to stride 4, the sum of the levels, P'."""
    head = head_of(box_embedding_dims=0, embedding_kernel=kernel).double()
    x = tuple(level.double() for level in feats())
    for conv in head.level_convs.modules():
        if isinstance(conv, torch.nn.GroupNorm):  # not the identity
            torch.nn.init.normal_(conv.weight, 1.0)
            torch.nn.init.normal_(conv.bias)

    def step(conv, its, doubled):
        if isinstance(conv, CoordConvModule):
            columns, rows = (torch.linspace(-1, 1, n, dtype=its.dtype) for n in (its.size(3), its.size(2)))
            grid = torch.stack(torch.meshgrid(columns, rows, indexing='xy')).expand(len(its), -1, -1, -1)
            its = torch.cat([its, grid], dim=1)
        its = F.conv2d(its, conv.conv.weight, conv.conv.bias, padding=1)
        its = F.relu(F.group_norm(its, 2, conv.norm.weight, conv.norm.bias))
        return F.interpolate(its, scale_factor=2, mode='bilinear', align_corners=False) if doubled else its

    total = torch.zeros(2, 8, 8, 16, dtype=torch.float64)
    for level, times in enumerate((1, 1, 2, 3)):
        its = x[level]
        for index in range(times):
            its = step(head.level_convs[level][index], its, doubled=level > 0)
        total += its
    expected = F.conv2d(total, head.conv_embedding.weight, head.conv_embedding.bias, padding=kernel // 2)
    torch.testing.assert_close(head(x)[0], expected)


def test_box_embeddings_are_summed_before_the_convolution():
    head = head_of().double()
    x, boxes = tuple(level.double() for level in feats()), tuple(level.double() for level in box_embeddings())
    head.conv_box_embedding.bias.data.fill_(0.3)
    none = tuple(torch.zeros_like(level) for level in boxes)
    added = head(x, boxes)[0] - head(x, none)[0]
    fused = sum(F.interpolate(level, (8, 16), mode='bilinear', align_corners=False) for level in boxes)
    assert torch.allclose(added, F.conv2d(fused, head.conv_box_embedding.weight, padding=1))


def test_queries_are_those_of_the_enlarged_map():
    embedding = torch.randn(6, 5, 7, requires_grad=True)
    large = F.interpolate(embedding[None], scale_factor=4, mode='bilinear', align_corners=False)[0]
    unit = F.normalize(large, dim=0)
    points = torch.stack(torch.meshgrid(torch.arange(28), torch.arange(20), indexing='xy'), dim=-1).flatten(0, 1)
    queries = head_of().queries(embedding, points)
    assert torch.allclose(queries, unit.flatten(1).T, atol=1e-5)
    assert torch.allclose(queries.norm(dim=1), torch.ones(len(points)), atol=1e-6)
    assert head_of().queries(embedding, points[:0]).shape == (0, 6)
    assert head_of().queries(embedding.half(), points).dtype == torch.float32


def test_rows_of_the_memory():
    head = head_of(thing_categories='spec')
    assert torch.equal(torch.cat([head.stuff_queries, head.thing_queries]), head.memory.embeddings)
    assert head.stuff_queries.shape == (S, 6)
    assert head.thing_queries.shape == (T, 6)
    for kwargs in (dict(), dict(thing_categories='none')):
        head = head_of(**kwargs)
        assert torch.equal(head.stuff_queries, head.memory.embeddings[:S]), 'the merged row is no query'
        assert head.thing_queries is None
    head = head_of(stuff_modeling='semseg')
    assert head.stuff_queries.shape == (0, 6)
    assert head.thing_queries is None


@pytest.mark.parametrize(
    ('kwargs', 'names'),
    [
        (dict(), {'loss_cae', 'loss_iae'}),
        (dict(thing_categories='spec'), {'loss_cae', 'loss_iae'}),
        (dict(thing_categories='none'), {'loss_iae'}),
        (dict(stuff_modeling='semseg'), {'loss_iae', 'loss_seg'}),
        (dict(coord_conv=None, box_embedding_dims=0, loss=dict(type='CIAELoss', filter_scale=None)), None),
    ],
)
def test_loss_and_gradient(kwargs, names):
    torch.manual_seed(0)
    head = head_of(**kwargs)
    losses = head.loss(feats(), box_embeddings() if head.conv_box_embedding else (), samples())
    assert names is None or set(losses) == names
    sum(losses.values()).backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize('mode', ['merge', 'spec', 'none'])
def test_memory_in_training_and_evaluation(mode, monkeypatch):
    """Classes that occur change, in training; spec tells things apart."""
    monkeypatch.setattr(MessageHub, 'get_current_instance', lambda: MessageHub('none'))
    head = head_of(thing_categories=mode, momentum=0.5)
    inputs = feats(), box_embeddings(), samples()
    for sample in inputs[2]:
        sample.gt_sem_seg.sem_seg[sample.gt_sem_seg.sem_seg == T + 1] = T
        sample.gt_sem_seg.sem_seg[sample.gt_sem_seg.sem_seg == 1] = 255
    before = head.memory.embeddings.clone()
    head.eval().loss(*inputs)
    assert torch.equal(head.memory.embeddings, before)
    head.train().loss(*inputs)
    changed = (head.memory.embeddings != before).any(1).tolist()
    assert changed == [True, False, True, *dict(merge=[True], spec=[True, False], none=[])[mode]]


def test_semantic_branch_says_what_it_is_told():
    """Its loss ignores void, and with logits that are right it is next to nothing."""
    head = head_of(stuff_modeling='semseg')
    logits = head(feats(), box_embeddings()).semantic
    assert logits.shape == (2, S + 1, 8, 16)
    its = samples()
    its[0].gt_sem_seg.sem_seg[:], its[1].gt_sem_seg.sem_seg[:] = T + 1, 0
    its[1].gt_sem_seg.sem_seg[0, :, 5:] = 255
    head.conv_logits.weight.data.zero_()
    head.conv_logits.bias.data.copy_(torch.tensor([0.0, 0.0, 0.0, 20.0]))
    stuff, things = (head.loss(feats(1), box_embeddings(1), [sample])['loss_seg'].item() for sample in its)
    assert things == pytest.approx(0, abs=1e-6)
    assert stuff == pytest.approx(20, abs=1e-4)


def test_semantic_branch_of_an_image_smaller_than_the_map():
    """Labels lie at the upper left of the enlarged logits."""
    head = head_of(stuff_modeling='semseg')
    (_, sample), (height, width) = samples(), (29, 61)
    sample.gt_sem_seg = PixelData(sem_seg=sample.gt_sem_seg.sem_seg[:, :height, :width])
    categories = embedding_targets(sample, T, S).categories
    labels = torch.where(categories < 0, 255, categories.clamp(max=S))
    inputs = feats(1), box_embeddings(1)
    logits = F.interpolate(head(*inputs)[1], scale_factor=4, mode='bilinear', align_corners=False)
    expected = F.cross_entropy(logits[..., :height, :width], labels[None], ignore_index=255)
    torch.testing.assert_close(head.loss(*inputs, [sample])['loss_seg'], expected)


@pytest.mark.parametrize('option', [dict(thing_categories='all'), dict(stuff_modeling='none'), dict(coord_conv='last')])
def test_bad_options(option):
    with pytest.raises(ValueError, match='is none of'):
        head_of(**option)


@pytest.mark.parametrize('option', [dict(embedding_kernel=2), dict(box_embedding_kernel=4), dict(embedding_kernel=0)])
def test_kernels_are_odd(option):
    with pytest.raises(ValueError, match='is not odd'):
        head_of(**option)
    assert head_of(embedding_kernel=5)(feats(), box_embeddings())[0].shape == (2, 6, 8, 16)


def test_categories_of_things_without_a_memory():
    with pytest.raises(ValueError, match="thing_categories 'spec' has no effect"):
        head_of(stuff_modeling='semseg', thing_categories='spec')
