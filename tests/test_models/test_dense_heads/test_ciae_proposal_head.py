"""CIAEProposalHead: assignment by masks, losses and detections worked out by hand, sizes."""

from math import log, sqrt

import numpy as np
import pytest
import torch
from helpers.models import on_meta
from mmdet.models.dense_heads import FCOSHead
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import nn

from mmpanoptic.models.dense_heads import CIAEProposalHead, CIAEProposals
from mmpanoptic.registry import MODELS

STRIDES = (8, 16, 32, 64, 128)
LEVELS = [(100, 168), (50, 84), (25, 42), (13, 21), (7, 11)]


def head_of(num_classes=2, channels=4, **kwargs) -> CIAEProposalHead:
    config = dict(type='CIAEProposalHead', num_classes=num_classes, in_channels=channels, feat_channels=channels)
    if channels < 32:
        config['norm_cfg'] = dict(type='GN', num_groups=2)
    return MODELS.build({**config, **kwargs})


def full_size(**kwargs) -> CIAEProposalHead:
    return on_meta(head_of, 80, 256, **kwargs)


def sizes_of(height: int, width: int) -> list[tuple[int, int]]:
    return [(-(-height // stride), -(-width // stride)) for stride in STRIDES]


def features(height: int, width: int, images=1, channels=4) -> list[torch.Tensor]:
    return [torch.randn(images, channels, *size) for size in sizes_of(height, width)]


def instances_of(size, *instances, dtype=np.uint8) -> InstanceData:
    """Instances, each (label, box, [(x1, y1, x2, y2) of a rectangle of its mask, ...])."""
    masks = np.zeros((len(instances), *size), dtype)
    for mask, (_, _, rectangles) in zip(masks, instances, strict=True):
        for x1, y1, x2, y2 in rectangles:
            mask[y1:y2, x1:x2] = 1
    return InstanceData(
        bboxes=torch.tensor([box for _, box, _ in instances], dtype=torch.float).reshape(-1, 4),
        labels=torch.tensor([label for label, _, _ in instances], dtype=torch.long),
        masks=BitmapMasks(masks, *size),
    )


def targets_of(instances: InstanceData, size, head=None) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Labels of shape (h, w) and distances (h, w, 4) of each level."""
    head = head or head_of()
    sizes = sizes_of(*size)
    labels, distances = head.get_targets(head.prior_generator.grid_priors(sizes, device='cpu'), [instances])
    return [lbl.view(s) for lbl, s in zip(labels, sizes, strict=True)], [
        dst.view(*s, 4) for dst, s in zip(distances, sizes, strict=True)
    ]


def positives(labels: list[torch.Tensor], background=2) -> list[tuple[int, int, int]]:
    """Level, row and column of each."""
    return [(lvl, *at) for lvl, level in enumerate(labels) for at in (level != background).nonzero().tolist()]


def sample_of(instances: InstanceData, img_shape, **fields) -> DetDataSample:
    sample = DetDataSample(metainfo=dict(img_shape=img_shape, ori_shape=img_shape, scale_factor=(1.0, 1.0)))
    sample.gt_instances = instances
    for name, value in fields.items():
        setattr(sample, name, value)
    return sample


# Layers.


@pytest.mark.parametrize(('dims', 'total'), [(32, 4_918_618 + 73_760), (0, 4_918_618), (16, 4_918_618 + 36_880)])
def test_parameters_and_shapes_at_800_by_1344(dims, total):
    head = full_size(box_embedding_dims=dims)
    assert sum(p.numel() for p in head.parameters()) == total
    outputs = head([torch.zeros(2, 256, *size, device='meta') for size in LEVELS])
    assert isinstance(outputs, CIAEProposals)
    channels = dict(cls_scores=80, distances=4, centernesses=1) | (dict(box_embeddings=dims) if dims else {})
    for name, number in channels.items():
        assert [tuple(level.shape) for level in getattr(outputs, name)] == [(2, number, *size) for size in LEVELS]
    assert outputs._fields == ('cls_scores', 'distances', 'centernesses', 'box_embeddings')
    if not dims:
        assert outputs.box_embeddings == ()
    points = head.prior_generator.grid_priors(LEVELS, device='cpu')
    assert sum(map(len, points)) == 22_400
    outside = [int(((level[:, 0] >= 1344) | (level[:, 1] >= 800)).sum()) for level in points]
    assert outside == [0, 0, 0, 21, 17]


def test_defaults():
    head = head_of()
    assert (head.loss_cls.gamma, head.loss_cls.alpha, head.loss_bbox.mode) == (2, 0.25, 'log')
    assert [loss.loss_weight for loss in (head.loss_cls, head.loss_bbox, head.loss_centerness)] == [1, 1, 1]
    assert head.prior_generator.strides == [(stride, stride) for stride in STRIDES]
    assert [high for _, high in head.regress_ranges] == [64, 128, 256, 512, 1e8]
    assert head.test_cfg == dict(nms_pre=1000, score_thr=0.05, nms=dict(type='nms', iou_threshold=0.6), max_per_img=100)
    assert head_of(test_cfg=dict(score_thr=0.3, other=1)).test_cfg == {**head.test_cfg, 'score_thr': 0.3, 'other': 1}


def test_first_weights():
    head = head_of(channels=32)
    head.init_weights()
    for name, parameter in head.named_parameters():
        if name == 'conv_cls.bias':
            assert parameter.unique().item() == pytest.approx(-log(99), abs=1e-5)
        elif '.gn.' in name or 'scales' in name:
            assert parameter.unique().item() == (0 if name.endswith('bias') else 1)
        elif name.endswith('bias'):
            assert not parameter.any()
        else:
            assert parameter.std().item() == pytest.approx(0.01, rel=0.1), name


@pytest.mark.parametrize(
    ('output', 'tower', 'last'),
    [(0, 'cls', 'conv_cls'), (1, 'reg', 'conv_reg'), (2, 'reg', 'conv_centerness'), (3, 'reg', 'conv_box_embedding')],
)
def test_which_tower_gives_what(output, tower, last):
    torch.manual_seed(0)
    head = head_of()
    sum(level.square().sum() for level in head(features(64, 64))[output]).backward()
    reached = {name.split('.')[0] for name, p in head.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached - {'scales'} == {f'{tower}_convs', last}
    assert ('scales' in reached) == (output == 1)


def test_box_embedding_shares_its_weights_and_has_no_activation():
    torch.manual_seed(0)
    head = head_of()
    x = torch.randn(1, 4, 8, 8)
    embeddings = head([x] * 5)[3]
    assert all(torch.equal(level, embeddings[0]) for level in embeddings)
    assert embeddings[0].shape == (1, 32, 8, 8)
    assert (embeddings[0] < 0).any()


def test_distances_are_scaled_by_level_then_exponentiated():
    head = head_of()
    nn.init.zeros_(head.conv_reg.weight)
    nn.init.constant_(head.conv_reg.bias, 2.0)
    for level, scale in enumerate(head.scales):
        nn.init.constant_(scale.scale, level / 2)
    distances = head(features(64, 64))[1]
    assert [level.unique().item() for level in distances] == pytest.approx([np.exp(lvl) for lvl in range(5)], rel=1e-6)


@pytest.mark.parametrize('kwargs', [dict(center_sampling=True), dict(norm_on_bbox=True), dict(centerness_on_reg=False)])
def test_choices_that_it_does_not_have(kwargs):
    with pytest.raises(ValueError, match=next(iter(kwargs))):
        head_of(**kwargs)
    head_of(centerness_on_reg=True, center_sampling=False, norm_on_bbox=False)


def test_dimensions_strides_and_levels_are_checked():
    with pytest.raises(ValueError, match=r'strides \[7\]'):
        head_of(strides=(7, 8, 16, 32, 64))
    with pytest.raises(ValueError, match='box_embedding_dims'):
        head_of(box_embedding_dims=-1)
    with pytest.raises(ValueError, match='6 levels'):
        head_of()([torch.zeros(1, 4, 16, 16), *features(64, 64)])


# Which locations are positive.

L_SHAPE = (1, (0, 0, 40, 40), [(0, 0, 8, 40), (0, 32, 40, 40)])


def test_l_shape_does_not_have_the_centre_of_its_box():
    instances = instances_of((64, 64), L_SHAPE)
    labels, distances = targets_of(instances, (64, 64))
    expected = [(0, row, 0) for row in range(4)] + [(0, 4, column) for column in range(5)]
    assert positives(labels) == expected
    assert labels[0][2, 2] == 2, 'location (20, 20), the centre'
    assert labels[0][4, 3] == 1
    assert distances[0][4, 3].tolist() == [28, 36, 12, 4], 'to the box, from (28, 36)'
    by_box = targets_of(instances, (64, 64), FCOSHead(2, 4, strides=STRIDES, norm_cfg=None))[0]
    assert by_box[0][2, 2] == 1
    assert len(positives(by_box)) == 25


def test_x_and_y_are_not_swapped():
    labels, distances = targets_of(instances_of((32, 96), (0, (40, 0, 64, 8), [(40, 0, 64, 8)])), (32, 96))
    assert positives(labels) == [(0, 0, 5), (0, 0, 6), (0, 0, 7)]
    assert distances[0][0, 7].tolist() == [20, 4, 4, 4]


def test_the_pixel_of_a_location_is_the_one_at_its_lower_right():
    """Location (12, 20) of P3 is the corner of four pixels."""
    for column, row, positive in [(12, 20, True), (11, 20, False), (12, 19, False), (11, 19, False)]:
        instances = instances_of((32, 32), (0, (8, 16, 16, 24), [(column, row, column + 1, row + 1)]))
        assert positives(targets_of(instances, (32, 32))[0]) == ([(0, 2, 1)] if positive else [])


def test_smallest_box_of_those_whose_masks_hold_the_location():
    large = (0, (0, 0, 48, 48), [(0, 0, 48, 48)])
    small = (1, (8, 8, 32, 32), [(8, 8, 24, 24)])
    # Its box is the smallest, its mask is elsewhere.
    smallest = (0, (8, 8, 16, 16), [(8, 8, 9, 9)])
    for order in ([large, small, smallest], [smallest, small, large]):
        labels, distances = targets_of(instances_of((64, 64), *order), (64, 64))
        assert len(positives(labels)) == 36
        assert (labels[0] == 1).nonzero().tolist() == [[1, 1], [1, 2], [2, 1], [2, 2]]
        assert distances[0][1, 1].tolist() == [4, 4, 20, 20]
        assert distances[0][3, 3].tolist() == [28, 28, 20, 20]


def test_smallest_is_the_box_not_the_mask():
    thin = (0, (0, 0, 48, 48), [(20, 0, 21, 48)])
    full = (1, (8, 8, 40, 40), [(8, 8, 40, 40)])
    for order in ([thin, full], [full, thin]):
        labels, _ = targets_of(instances_of((64, 64), *order), (64, 64))
        assert labels[0][2, 2] == 1  # location (20, 20) is in both masks


def test_masks_that_fill_their_boxes_give_the_targets_of_fcos():
    """Boxes end between pixels, so that no location is on a side, no distance at the end of a range."""
    rng = np.random.default_rng(0)
    size = (256, 640)
    start = rng.uniform(0, (500, 200), (12, 2))
    boxes = np.concatenate([start, np.minimum(start + rng.uniform(10, (500, 250), (12, 2)), (639.5, 255.5))], axis=1)
    described = [
        (number % 2, tuple(box), [(*np.ceil(box[:2]).astype(int), *np.ceil(box[2:]).astype(int))])
        for number, box in enumerate(boxes)
    ]
    instances = instances_of(size, *described)
    found, expected = (
        targets_of(instances, size, head) for head in (head_of(), FCOSHead(2, 4, strides=STRIDES, norm_cfg=None))
    )
    assert len({level for level, _, _ in positives(found[0])}) == 4
    for labels, wanted, distances, wanted_distances in zip(
        *found[:1], *expected[:1], *found[1:], *expected[1:], strict=True
    ):
        assert torch.equal(labels, wanted)
        assert torch.equal(distances[labels < 2], wanted_distances[labels < 2])


@pytest.mark.parametrize('labels', [(0, 1), (1, 0)])
def test_first_of_equal_boxes(labels):
    twins = [(label, (0, 0, 16, 16), [(0, 0, 16, 16)]) for label in labels]
    found = targets_of(instances_of((32, 32), *twins), (32, 32))[0]
    assert positives(found) == [(0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1)]
    assert found[0][:2, :2].unique().tolist() == [labels[0]]


@pytest.mark.parametrize(
    ('level', 'distance', 'positive'),
    [
        (0, 64, True),
        (0, 64.5, False),
        (1, 64, False),
        (1, 64.5, True),
        (1, 128, True),
        (1, 128.5, False),
        (2, 256, True),
        (3, 256, False),
        (3, 512, True),
        (4, 512, False),
        (4, 900, True),
    ],
)
def test_level_by_the_largest_distance(level, distance, positive):
    """No two levels have a location in common; the mask has the first one of ``level`` alone."""
    at = STRIDES[level] // 2
    for box in [(0, 0, at + distance, at + 1), (0, at - distance, at + 1, at + 1)]:
        instances = instances_of((128, 128), (0, box, [(at, at, at + 1, at + 1)]))
        assert positives(targets_of(instances, (128, 128))[0]) == ([(level, 0, 0)] if positive else [])


def test_masks_end_where_the_image_does():
    """Locations on the padding, and those past the padded input that P6 and P7 have, are negative."""
    whole = (0, (0, 0, 40, 56), [(0, 0, 40, 56)])
    unpadded, padded = (instances_of(size, whole) for size in [(56, 40), (64, 64)])
    labels = targets_of(unpadded, (64, 64))[0]
    assert positives(labels) == [(0, row, column) for row in range(7) for column in range(5)]
    for level, other in zip(labels, targets_of(padded, (64, 64))[0], strict=True):
        assert torch.equal(level, other)


def test_box_that_the_mask_sticks_out_of():
    """As rounding does; the distance is 0 then, and so is the centerness."""
    instances = instances_of((32, 32), (0, (4.5, 3, 20, 19.5), [(4, 3, 21, 21)]))
    head = head_of()
    labels, distances = targets_of(instances, (32, 32), head)
    assert positives(labels) == [(0, row, column) for row in range(3) for column in range(3)]
    assert distances[0][0, 0].tolist() == [0, 1, 16, 15.5]
    assert distances[0][2, 2].tolist() == [15.5, 17, 0, 0]
    assert min(level.min() for level in distances) == 0
    centerness = head.centerness_target(distances[0][:3, :3].reshape(-1, 4))
    assert centerness.isfinite().all()
    assert centerness[[0, 2, 6, 8]].tolist() == [0, 0, 0, 0]
    assert centerness[4].item() == pytest.approx(sqrt(7.5 / 8 * 7.5 / 9))


@pytest.mark.parametrize('box', [(12, 0, 12, 24), (0, 12, 24, 12), (20, 20, 8, 8)])
def test_box_without_extent_has_no_positives(box):
    instances = instances_of((32, 32), (0, box, [(0, 0, 24, 24)]))
    labels, distances = targets_of(instances, (32, 32))
    assert positives(labels) == []
    assert not any(level.any() for level in distances)


def test_no_instances():
    labels, distances = targets_of(instances_of((32, 32)), (32, 32))
    assert positives(labels) == []
    assert not any(level.any() for level in distances)
    empty_mask = instances_of((32, 32), (0, (0, 0, 8, 8), []))
    assert positives(targets_of(empty_mask, (32, 32))[0]) == []


def test_boolean_masks():
    as_bool, as_int = (instances_of((64, 64), L_SHAPE, dtype=dtype) for dtype in (bool, np.uint8))
    assert positives(targets_of(as_bool, (64, 64))[0]) == positives(targets_of(as_int, (64, 64))[0])


@pytest.mark.parametrize('masks', [None, PolygonMasks([[np.array([0, 0, 8, 0, 8, 8])]], 32, 32)])
def test_masks_are_needed(masks):
    instances = InstanceData(bboxes=torch.tensor([[0.0, 0, 8, 8]]), labels=torch.tensor([0]))
    if masks is not None:
        instances.masks = masks
    with pytest.raises(ValueError, match='BitmapMasks'):
        targets_of(instances, (32, 32))
    with pytest.raises(ValueError, match='BitmapMasks'):
        head_of().loss(features(32, 32), [sample_of(instances, (32, 32))])


# Losses.


def outputs_of(size, num_classes=1, images=1, cls=0.0, distance=4.0, centerness=0.0):
    """The same everywhere, as leaves with a gradient."""
    values = [(num_classes, cls), (4, distance), (1, centerness)]
    maps = [[torch.full((images, n, *s), value).requires_grad_() for s in sizes_of(*size)] for n, value in values]
    return CIAEProposals(*maps, [torch.zeros(images, 32, *s, requires_grad=True) for s in sizes_of(*size)])


HAND_MADE = (0, (0, 0, 14, 8), [(0, 0, 14, 8)])


def test_losses_by_hand():
    """Two positives, (4, 4) and (12, 4) of the box (0, 0, 14, 8), among the 8 locations of a 16x16 image.

    Their distances are (4, 4, 10, 4) and (12, 4, 2, 4), so their centerness is sqrt(.4) and sqrt(1 / 6). The boxes
    predicted are 8x8 around them: IoU 64 / 112 and, with x from 8 to 16, 48 / 128.
    """
    losses = head_of(1).detection_loss(outputs_of((16, 16)), [sample_of(instances_of((16, 16), HAND_MADE), (16, 16))])
    assert set(losses) == {'loss_cls', 'loss_bbox', 'loss_centerness'}
    focal = (2 * 0.25 + 6 * 0.75) * 0.25 * log(2) / 2
    first, second = sqrt(0.4), sqrt(1 / 6)
    iou = (first * -log(64 / 112) + second * -log(48 / 128)) / (first + second)
    assert losses['loss_cls'].item() == pytest.approx(focal, rel=1e-5)
    assert losses['loss_bbox'].item() == pytest.approx(iou, rel=1e-5)
    assert losses['loss_centerness'].item() == pytest.approx(log(2), rel=1e-5)


def test_normalisers_are_those_of_the_batch():
    """An image without instances adds negatives only; crowds are negatives too."""
    crowd = instances_of((16, 16), (0, (0, 8, 16, 16), [(0, 8, 16, 16)]))
    samples = [
        sample_of(instances_of((16, 16), HAND_MADE), (16, 16), ignored_instances=instances_of((16, 16))),
        sample_of(instances_of((16, 16)), (16, 16), ignored_instances=crowd),
    ]
    one = head_of(1).detection_loss(outputs_of((16, 16)), samples[:1])
    two = head_of(1).detection_loss(outputs_of((16, 16), images=2), samples)
    assert two['loss_cls'].item() == pytest.approx(one['loss_cls'].item() + 8 * 0.75 * 0.25 * log(2) / 2, rel=1e-5)
    assert two['loss_bbox'].item() == pytest.approx(one['loss_bbox'].item(), rel=1e-6)
    assert two['loss_centerness'].item() == pytest.approx(one['loss_centerness'].item(), rel=1e-6)


def test_images_of_one_batch_have_their_own_targets():
    size = (32, 64)
    samples = [
        sample_of(instances_of(size, (1, (0, 0, 24, 16), [(0, 0, 24, 16)])), (24, 40)),
        sample_of(instances_of(size, (0, (40, 8, 64, 32), [(40, 8, 64, 32)])), size),
    ]
    torch.manual_seed(0)
    head = head_of()
    outputs = head(features(*size, images=2))
    both = head.detection_loss(outputs, samples)
    halves = [
        head.detection_loss(
            CIAEProposals(*([level[i : i + 1] for level in maps] for maps in outputs)), samples[i : i + 1]
        )
        for i in range(2)
    ]
    # 6 and 9 positives
    for name in ('loss_cls', 'loss_centerness'):
        assert (both[name] * 15).item() == pytest.approx((halves[0][name] * 6 + halves[1][name] * 9).item(), rel=1e-5)


def test_what_masks_hold_outside_the_image_does_not_count():
    plain, full = (instances_of((32, 32), (0, (0, 0, 16, 16), [(0, 0, 16, 16)])) for _ in range(2))
    full.masks.masks[:, 16:] = full.masks.masks[:, :, 16:] = 1
    head, outputs = head_of(1), outputs_of((32, 32))
    expected, found = (head.detection_loss(outputs, [sample_of(its, (16, 16))]) for its in (plain, full))
    assert found == expected
    assert full.masks.masks.shape == (1, 32, 32), 'the sample keeps its masks'
    assert full.masks.masks[0, 31, 31] == 1


@pytest.mark.parametrize('instances', [(), [(0, (0, 0, 16, 16), [(0, 0, 16, 16)])]], ids=['none', 'one'])
def test_gradient_reaches_everything(instances):
    torch.manual_seed(0)
    head = head_of()
    head.init_weights()
    x = [level.requires_grad_() for level in features(32, 32)]
    outputs = head(x)
    losses = head.detection_loss(outputs, [sample_of(instances_of((32, 32), *instances), (32, 32))])
    assert all(loss.isfinite() and loss.ndim == 0 for loss in losses.values())
    if not instances:
        assert losses['loss_bbox'] == losses['loss_centerness'] == 0
    (sum(losses.values()) + sum(level.sum() for level in outputs.box_embeddings)).backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert all(level.grad.isfinite().all() for level in x)
    assert head.conv_cls.weight.grad.any()
    assert bool(head.conv_reg.weight.grad.any()) == bool(instances)
    assert bool(head.conv_centerness.weight.grad.any()) == bool(instances)


def test_only_positives_on_edges():
    """Centerness is 0 for all of them: no box loss, but a gradient and no NaN."""
    outputs = outputs_of((16, 16))
    instances = instances_of((16, 16), (0, (4, 4, 9, 9), [(4, 4, 5, 5)]))
    losses = head_of(1).detection_loss(outputs, [sample_of(instances, (16, 16))])
    assert losses['loss_bbox'] == 0
    assert losses['loss_centerness'].item() == pytest.approx(log(2), rel=1e-5)
    sum(losses.values()).backward()
    assert all(level.grad.isfinite().all() for level in outputs.distances)


def test_loss_is_that_of_forward():
    torch.manual_seed(0)
    head, x = head_of(), features(32, 32)
    samples = [sample_of(instances_of((32, 32), HAND_MADE), (32, 32))]
    assert head.loss(x, samples) == head.detection_loss(head(x), samples)


# Detections.

META = dict(img_shape=(64, 64), scale_factor=(1.0, 1.0))


def silent(size, num_classes=2, images=1):
    """Outputs that detect nothing."""
    with torch.no_grad():
        return outputs_of(size, num_classes, images, cls=-20.0, distance=8.0, centerness=20.0)


def logit(probability: float) -> float:
    return log(probability / (1 - probability))


def fire(outputs, at, label=0, score=0.9, distances=(8, 8, 8, 8), centerness=1 - 1e-9, image=0) -> None:
    level, row, column = at
    with torch.no_grad():
        outputs.cls_scores[level][image, label, row, column] = logit(score)
        outputs.distances[level][image, :, row, column] = torch.tensor(distances, dtype=torch.float)
        outputs.centernesses[level][image, 0, row, column] = logit(centerness)


def rows_of(instances: InstanceData) -> set[tuple]:
    """Label, score, box and point of each, sorted by score as they come."""
    fields = (instances.labels, instances.scores, instances.bboxes, instances.points)
    return {
        (label, round(score, 5), tuple(round(v, 4) for v in box), tuple(point))
        for label, score, box, point in zip(*(field.tolist() for field in fields), strict=True)
    }


def test_points_are_those_that_the_boxes_came_from():
    outputs = silent((64, 64))
    fire(outputs, (0, 1, 2), score=0.6)
    fire(outputs, (0, 5, 6), score=0.9, distances=(4, 8, 12, 16))
    fire(outputs, (1, 1, 3), score=0.8, label=1, distances=(2, 3, 4, 5))
    # Of the same class as the second, and 14 of 20 px in common with it, so suppressed by it.
    fire(outputs, (0, 5, 5), score=0.7, distances=(0, 8, 18, 16))
    (found,) = head_of().detect(outputs, [META])
    assert found.scores.tolist() == pytest.approx([0.9, 0.8, 0.6])
    assert found.labels.tolist() == [0, 1, 0]
    assert found.points.tolist() == [[52, 44], [56, 24], [20, 12]]
    assert found.points.dtype == torch.int64
    assert found.bboxes.tolist() == [[48, 36, 64, 60], [54, 21, 60, 29], [12, 4, 28, 20]]
    assert set(found.keys()) == {'bboxes', 'scores', 'labels', 'points'}


def test_every_point_is_in_the_middle_of_its_box_when_distances_are_equal():
    """Random scores, so that top-k and suppression reorder everything."""
    torch.manual_seed(0)
    outputs = silent((128, 192), images=2)
    with torch.no_grad():
        for level, stride in enumerate(STRIDES):
            outputs.cls_scores[level].normal_(std=2)
            outputs.centernesses[level].normal_(std=2)
            outputs.distances[level][:] = stride * 0.7
    metas = [dict(img_shape=(1000, 1000))] * 2
    for image, found in enumerate(head_of(test_cfg=dict(nms_pre=40)).detect(outputs, metas)):
        assert len(found) > 50
        for box, label, score, (x, y) in zip(found.bboxes, found.labels, found.scores, found.points, strict=True):
            reach = (box[2] - box[0]).item() / 2 if box[0] > 0 else (box[2] - x).item()
            (level,) = (lvl for lvl, stride in enumerate(STRIDES) if abs(stride * 0.7 - reach) < 1e-3)
            row, column = y // STRIDES[level], x // STRIDES[level]
            assert (x, y) == ((2 * column + 1) * STRIDES[level] // 2, (2 * row + 1) * STRIDES[level] // 2)
            scores, centers = (its[level][image].sigmoid() for its in (outputs.cls_scores, outputs.centernesses))
            expected = (scores[label] * centers[0])[row, column]
            assert score.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize('img_shape', [(800, 1333), (800, 1344), (797, 1333, 3)])
def test_last_rows_and_columns_of_p6_and_p7_point_into_the_image(img_shape):
    """800x1333 is padded to 1344; P6 has locations to y = 800 and x = 1312, P7 to y = 832 and x = 1344."""
    height, width = img_shape[:2]
    outputs = silent((800, 1344), 1)
    expected = []
    for level, (rows, columns) in list(enumerate(LEVELS))[3:]:
        corners = [(rows - 1, 0), (rows - 1, columns - 1), (0, columns - 1)]
        for number, (row, column) in enumerate(corners):
            score = 0.9 - 0.1 * number - 0.05 * (level - 3)
            fire(outputs, (level, row, column), score=score, distances=(60, 60, 1, 1))
            x, y = (column + 0.5) * STRIDES[level], (row + 0.5) * STRIDES[level]
            expected.append((score, [min(int(x), width - 1), min(int(y), height - 1)]))
    (found,) = head_of(1).detect(outputs, [dict(img_shape=img_shape)])
    assert found.points.tolist() == [point for _, point in sorted(expected, reverse=True)]
    embedding = torch.zeros(32, height, width)
    assert embedding[:, found.points[:, 1], found.points[:, 0]].shape == (32, 6)
    assert (found.bboxes >= 0).all()
    assert (found.bboxes <= torch.tensor([width, height, width, height])).all()


def test_all_locations_point_into_the_image():
    outputs = silent((800, 1344), 1)
    with torch.no_grad():
        for level in range(3, 5):
            outputs.cls_scores[level][:] = 3
    config = ConfigDict(nms_pre=1000, score_thr=0.05, nms=dict(type='nms', iou_threshold=1.0), max_per_img=1000)
    (found,) = head_of(1).detect(outputs, [dict(img_shape=(800, 1344))], config)
    assert len(found) == 13 * 21 + 7 * 11
    assert found.points.amin(0).tolist() == [32, 32]
    assert found.points.amax(0).tolist() == [1343, 799]
    # 38 locations lie outside; those at x = 1344 or y = 800 and more are moved to the border.
    at_border = (found.points[:, 0] == 1343) | (found.points[:, 1] == 799)
    assert int(at_border.sum()) == 21 + 17


def test_class_score_is_cut_before_centerness_counts():
    outputs = silent((64, 64))
    fire(outputs, (0, 1, 1), score=0.06, centerness=0.1)
    fire(outputs, (0, 1, 5), score=0.04)
    fire(outputs, (0, 5, 1), score=0.5, centerness=0.4)
    (found,) = head_of().detect(outputs, [META])
    assert found.scores.tolist() == pytest.approx([0.2, 0.006], rel=1e-4)
    assert found.points.tolist() == [[12, 44], [12, 12]]


def test_suppression_is_by_class_and_by_the_product():
    """Boxes 40 px wide 8 px apart have IoU 32 / 48 = .667 > .6; 16 px apart it is 24 / 56."""
    outputs = silent((64, 64))
    wide = dict(distances=(20, 2, 20, 2))
    fire(outputs, (0, 3, 2), score=0.9, centerness=0.5, **wide)
    fire(outputs, (0, 3, 3), score=0.6, centerness=0.9, **wide)
    fire(outputs, (0, 3, 5), score=0.55, centerness=0.5, **wide)
    fire(outputs, (0, 3, 4), label=1, score=0.5, centerness=0.5, **wide)
    (found,) = head_of().detect(outputs, [META])
    assert found.points.tolist() == [[28, 28], [44, 28], [36, 28]]
    assert found.scores.tolist() == pytest.approx([0.54, 0.275, 0.25], rel=1e-4)
    (found,) = head_of(test_cfg=dict(nms=dict(type='nms', iou_threshold=0.7))).detect(outputs, [META])
    assert len(found) == 4


def test_numbers_kept():
    outputs = silent((64, 64))
    for column in range(8):
        fire(outputs, (0, 0, column), score=0.9 - 0.05 * column, distances=(1, 1, 1, 1))
    fire(outputs, (1, 2, 2), score=0.1)
    (found,) = head_of(test_cfg=dict(nms_pre=3)).detect(outputs, [META])
    assert found.points.tolist() == [[4, 4], [12, 4], [20, 4], [40, 40]], 'of each level'
    (found,) = head_of(test_cfg=dict(max_per_img=2)).detect(outputs, [META])
    assert found.points.tolist() == [[4, 4], [12, 4]]


def test_nothing_detected():
    (found,) = head_of().detect(silent((64, 64)), [META])
    shapes = dict(bboxes=(0, 4), scores=(0,), labels=(0,), points=(0, 2))
    assert {name: tuple(value.shape) for name, value in found.items()} == shapes
    assert found.points.dtype == found.labels.dtype == torch.int64


def test_batched_equals_single():
    torch.manual_seed(0)
    head = head_of()
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=0.3)
    x = features(64, 96, images=2)
    metas = [dict(img_shape=(64, 96)), dict(img_shape=(50, 70))]
    both = head.detect(head(x), metas)
    for image, (found, meta) in enumerate(zip(both, metas, strict=True)):
        (alone,) = head.detect(head([level[image : image + 1] for level in x]), [meta])
        assert len(found) == len(alone) > 5
        assert torch.equal(found.points, alone.points)
        assert torch.equal(found.labels, alone.labels)
        assert torch.allclose(found.bboxes, alone.bboxes, atol=1e-4)
        assert torch.allclose(found.scores, alone.scores, atol=1e-6)
        assert (found.points < torch.tensor(meta['img_shape'][::-1])).all()
        assert not found.scores.requires_grad
        assert not found.bboxes.requires_grad


def test_points_are_exact_in_low_precision():
    """bfloat16 has 8 bits, too few for 1300."""
    outputs = silent((32, 1344), 1)
    fire(outputs, (0, 2, 162))
    halves = {
        name: [level.bfloat16() for level in getattr(outputs, name)] for name in outputs._fields if name != 'distances'
    }
    outputs = outputs._replace(**halves)
    (found,) = head_of(1).detect(outputs, [dict(img_shape=(32, 1344))])
    assert found.points.tolist() == [[1300, 20]]
    assert found.bboxes.tolist() == [[1292, 12, 1308, 28]]


def test_predict_at_the_original_size():
    torch.manual_seed(0)
    head = head_of()
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=0.3)
    x = features(64, 64)
    sample = sample_of(instances_of((64, 64)), (64, 64))
    sample.set_metainfo(dict(scale_factor=(2.0, 4.0)))
    (fed,), (original,) = (head.predict(x, [sample], rescale=rescale) for rescale in (False, True))
    (detected,) = head.detect(head(x), [sample.metainfo])
    assert len(detected) > 5
    assert torch.equal(fed.bboxes, detected.bboxes)
    assert torch.equal(fed.points, detected.points)
    # Suppression comes after rescaling, which does not change an IoU.
    assert torch.allclose(original.bboxes * torch.tensor([2.0, 4.0, 2.0, 4.0]), fed.bboxes, atol=1e-3)
    assert torch.equal(original.points, fed.points), 'points are pixels of the input either way'
