"""CIAE's loss against values worked out by hand and a plain double loop, its gradient, and its queries."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.logging import MessageHub
from mmengine.structures import InstanceData, PixelData

from mmpanoptic.models import CategoryMemory, CIAELoss
from mmpanoptic.models.losses import (
    EmbeddingTargets,
    embedding_targets,
    enlarge_boxes,
    hardest_queries_loss,
    mean_queries,
    segment_sums,
)

FLOOR = -math.log(1 - 0.15 / 2.15)  # the self term of a pixel that equals its query
S = 4


@pytest.fixture(autouse=True)
def no_runner(monkeypatch):
    """The memory's momentum is not that of a training that has run before in this process."""
    monkeypatch.setattr(MessageHub, 'get_current_instance', lambda: MessageHub('none'))


def term(cosine: float, own: float, margin: float = 0.15) -> float:
    """L of one query, by hand."""
    return -math.log(max(1 - max(cosine - own + margin, 0) / (2 + margin), 1e-6))


def pixel_with_cosines(cosines: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    """A pixel of length 3, of shape (D, 1), and queries with these cosines to it."""
    cosines = torch.tensor(cosines, dtype=torch.float64)
    rest = torch.diag((1 - cosines**2).sqrt())
    pixel = torch.zeros(len(cosines) + 1, 1, dtype=torch.float64)
    pixel[0] = 3
    return pixel, torch.cat([cosines[:, None], rest], dim=1)


def loss_of(pixels, queries, own, **kwargs) -> torch.Tensor:
    own = torch.as_tensor(own)
    return hardest_queries_loss(pixels, queries, own, torch.ones_like(own, dtype=pixels.dtype), **kwargs)


@pytest.mark.parametrize(('self_term', 'expected'), [(True, 0.24478), (False, 0.12117)])
def test_worked_example(self_term, expected):
    pixel, queries = pixel_with_cosines([0.9, 0.2, 0.8, -0.5, 0.0, 0.95, 0.1])
    assert loss_of(pixel, queries, [0], self_term=self_term).item() == pytest.approx(expected, abs=5e-6)


@pytest.mark.parametrize('self_term', [True, False])
@pytest.mark.parametrize('topk', [1, 2, 3, 5])
def test_top_k_is_over_the_queries_of_a_pixel(self_term, topk):
    """Many hard queries, and a second pixel that has none: its loss does not give way to the first one's."""
    cosines = [0.1, 0.9, 0.5, 0.7, 0.3, 0.8]
    pixel, queries = pixel_with_cosines(cosines)
    own = 1.0 if self_term else None
    candidates = cosines[1:] + ([own] if self_term else [])
    by_hand = sum(sorted((term(c, 0.1) for c in candidates), reverse=True)[:topk])
    assert loss_of(pixel, queries, [0], topk=topk, self_term=self_term).item() == pytest.approx(by_hand, abs=1e-12)
    second = queries[1][:, None]
    both = loss_of(torch.cat([pixel, second], dim=1), queries, [0, 1], topk=topk, self_term=self_term)
    alone = loss_of(second, queries, [1], topk=topk, self_term=self_term)
    assert both.item() == pytest.approx(by_hand + alone.item(), abs=1e-12)


def test_perfect_pixel_has_the_floor():
    pixel, queries = pixel_with_cosines([1.0, 0.2, -0.4])
    assert loss_of(pixel, queries, [0]).item() == pytest.approx(FLOOR, abs=1e-12)
    assert pytest.approx(0.07232, abs=5e-6) == FLOOR
    assert loss_of(pixel, queries, [0], self_term=False).item() == 0


def test_means_are_of_raw_embeddings():
    pixels = torch.tensor([[3.0, 0.0, 7.0, 0.0], [0.0, 1.0, 7.0, -5.0]])
    means = mean_queries(segment_sums(pixels, torch.tensor([1, 1, -1, 2]), 3))
    assert torch.allclose(means, torch.tensor([[0.0, 0.0], [0.9487, 0.3162], [0.0, -1.0]]), atol=5e-5)


def test_an_easy_query_twice_changes_nothing_and_a_hard_one_does():
    pixel, queries = pixel_with_cosines([0.9, 0.2, -0.5, 0.8])
    once = loss_of(pixel, queries, [0])
    assert loss_of(pixel, torch.cat([queries, queries[2:3]]), [0]) == once
    twice = loss_of(pixel, torch.cat([queries, queries[3:]]), [0])
    assert twice.item() == pytest.approx(once.item() + term(0.8, 0.9), abs=1e-12)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('self_term', [True, False])
@pytest.mark.parametrize('num_queries', [1, 2])
def test_opposite_pixel_is_finite(self_term, num_queries, dtype):
    queries = F.normalize(torch.tensor([[1.0, 2.0, -1.0], [1.0, 0.0, 1.0]], dtype=dtype), dim=1)[:num_queries]
    queries.requires_grad_()
    for factor in (-1.0, -1.0001, -7.0):
        pixel = (queries[:1].detach().T * factor).requires_grad_()
        loss = loss_of(pixel, queries, [0], self_term=self_term)
        grads = torch.autograd.grad(loss, [pixel, queries])
        assert loss.isfinite()
        assert all(grad.isfinite().all() for grad in grads)
        if self_term:
            assert loss > -math.log(1e-6) * 0.9
    nearly = (-queries[:1].detach().T + 1e-4).requires_grad_()
    loss_of(nearly, queries, [0], self_term=self_term).backward()
    assert nearly.grad.isfinite().all()


def test_embedding_of_length_zero_is_finite():
    pixel = torch.zeros(3, 1, requires_grad=True)
    loss = loss_of(pixel, torch.eye(3), [1])
    loss.backward()
    assert loss.isfinite()
    assert pixel.grad.isfinite().all()


def test_no_queries_and_no_pixels():
    pixels = torch.randn(3, 5, requires_grad=True)
    loss = loss_of(pixels, torch.zeros(0, 3), [-1] * 5)
    loss.backward()
    assert loss == 0
    assert (pixels.grad == 0).all()
    none = torch.randn(3, 0, requires_grad=True)
    loss = loss_of(none, torch.eye(3), torch.zeros(0, dtype=torch.long))
    loss.backward()
    assert loss == 0


def test_boxes_need_points():
    with pytest.raises(ValueError, match='boxes need points'):
        loss_of(torch.randn(2, 3), torch.eye(2), [0, 1, 0], boxes=torch.rand(1, 4))
    loss_of(torch.randn(2, 3), torch.eye(2), [0, 1, 0], boxes=torch.zeros(0, 4))  # none to need them


@pytest.mark.parametrize('option', [dict(topk=0), dict(block_size=0)])
def test_bad_options(option):
    with pytest.raises(ValueError, match='at least 1'):
        loss_of(torch.randn(2, 3), torch.eye(2), [0, 1, 0], **option)
    with pytest.raises(ValueError, match='0 is below 1'):
        CIAELoss(**option)


@pytest.mark.parametrize('option', [dict(stride=0), dict(margin=-3.0), dict(filter_scale=0.0)])
def test_bad_options_of_the_losses(option):
    (name,) = option
    with pytest.raises(ValueError, match=name):
        CIAELoss(**option)


def test_enlarged_boxes_keep_their_centre():
    boxes = torch.tensor([[10.0, 20.0, 30.0, 30.0]])
    assert enlarge_boxes(boxes, 1.5).tolist() == [[5.0, 17.5, 35.0, 32.5]]
    assert enlarge_boxes(boxes[:0], 1.5).shape == (0, 4)


def test_filter_sets_the_similarity_to_zero_and_leaves_the_own_query():
    """Outside of a box a query has distance 1: still a negative, if the pixel is far from its own query."""
    pixel, queries = pixel_with_cosines([0.1, 0.9, 0.8])
    points = torch.tensor([[7.5], [0.5]])
    boxes = torch.tensor([[0.0, 0.0, 7.0, 1.0], [7.0, 0.0, 8.0, 1.0]])

    def total(own, **kwargs):
        return loss_of(pixel, queries, [own], boxes=boxes, points=points, self_term=False, **kwargs).item()

    assert total(0) == pytest.approx(term(0.0, 0.1) + term(0.8, 0.1), abs=1e-12)
    assert total(1) == pytest.approx(term(0.1, 0.9) + term(0.8, 0.9), abs=1e-12), 'outside of its own box'
    pixel.requires_grad_()
    queries.requires_grad_()
    loss_of(pixel, queries, [0], boxes=boxes, points=points).backward()
    assert (queries.grad[1] == 0).all(), 'a similarity that is set gives no gradient'
    assert (queries.grad[2] != 0).any()


def test_blocks_change_nothing():
    torch.manual_seed(0)
    queries = F.normalize(torch.randn(9, 6), dim=1)
    own = torch.randint(0, 9, (101,))
    results = []
    for block_size in (1, 7, 101, 1000):
        pixels, its_queries = torch.randn(6, 101, generator=torch.Generator().manual_seed(1)), queries.clone()
        inputs = [pixels.requires_grad_(), its_queries.requires_grad_()]
        loss = loss_of(*inputs, own, block_size=block_size)
        results.append([loss, *torch.autograd.grad(loss, inputs)])
    for result in results[1:]:
        for one, other in zip(results[0], result, strict=True):
            assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize('self_term', [True, False])
@pytest.mark.parametrize('filtered', [True, False])
def test_gradient_of_hardest_queries(self_term, filtered):
    torch.manual_seed(0)
    pixels = torch.randn(5, 23, dtype=torch.float64, requires_grad=True)
    queries = torch.randn(8, 5, dtype=torch.float64, requires_grad=True)
    own, weights = torch.randint(-1, 8, (23,)), torch.rand(23, dtype=torch.float64)
    boxes = torch.tensor([[0.0, 0.0, 9.0, 1.0], [5.0, 0.0, 20.0, 1.0], [2.0, 0.0, 3.0, 1.0]]) if filtered else None
    points = torch.stack([torch.arange(23) + 0.5, torch.full((23,), 0.5)])

    def function(pixels, queries):
        # Queries are unit vectors by contract, which the numeric gradient must not leave.
        return hardest_queries_loss(
            pixels, F.normalize(queries, dim=1), own, weights, boxes, points, self_term=self_term, block_size=7
        )

    assert torch.autograd.gradcheck(function, (pixels, queries))


def scene(num_images: int = 3, size: tuple[int, int] = (10, 14), seed: int = 0) -> list[EmbeddingTargets]:
    """Images with stuff, void, three instances (none in the last image), one unseen, and things without an instance."""
    generator = torch.Generator().manual_seed(seed)
    targets = []
    for index in range(num_images):
        categories = torch.randint(0, S, size, generator=generator)
        instances = torch.full(size, -1)
        boxes = torch.zeros(0, 4)
        if index < num_images - 1:
            instances[1:4, 2:6], instances[5:8, 7:11] = 0, 2  # of instance 1, between them, nothing is seen
            boxes = torch.tensor([[2.0, 1.0, 6.0, 4.0], [1.0, 5.0, 3.0, 9.0], [7.0, 5.0, 11.0, 8.0]])
        categories[instances >= 0] = S
        categories[0, :3] = S  # a crowd
        categories[:, -2:] = -1
        instances[:, -2:] = -1
        targets.append(EmbeddingTargets(categories, instances, boxes))
    return targets


def raw_maps(num_images: int = 3, dims: int = 5, seed: int = 1, dtype=torch.float64) -> torch.Tensor:
    """Maps that cover 10x14 pixels."""
    return torch.randn(num_images, dims, 3, 4, generator=torch.Generator().manual_seed(seed)).to(dtype)


def memory_of(rows: int, dims: int = 5, seed: int = 2) -> CategoryMemory:
    memory = CategoryMemory(rows, dims, momentum=0.9).double()
    generator = torch.Generator().manual_seed(seed)
    memory.embeddings.copy_(F.normalize(torch.randn(rows, dims, generator=generator), dim=1))
    return memory


def unit(vector):
    length = math.sqrt(sum(v * v for v in vector))
    return [v / length for v in vector]


def dot(one, other):
    return sum(a * b for a, b in zip(one, other, strict=True))


def plain_losses(raw, targets, rows, stride=1, self_term=True, filter_scale=1.5, margin=0.15, topk=5, momentum=0.9):
    """The losses and the memory's rows after it, by loops over pixels, queries and nothing else."""
    large = F.interpolate(raw, scale_factor=4, mode='bilinear', align_corners=False)
    pixels = []  # (image, x, y, raw embedding, category, instance)
    for n, its in enumerate(targets):
        height, width = its.categories.shape
        for y in range(stride // 2, height, stride):
            for x in range(stride // 2, width, stride):
                if its.categories[y, x] >= 0:
                    at = its.categories[y, x].item(), its.instances[y, x].item()
                    pixels.append((n, x, y, large[n, :, y, x].tolist(), *at))
    rows = [row[:] for row in rows]
    for c in range(len(rows)):
        members = [p[3] for p in pixels if p[4] == c]
        if members:
            mean = unit([sum(column) for column in zip(*members, strict=True)])
            rows[c] = unit([momentum * a + (1 - momentum) * b for a, b in zip(rows[c], mean, strict=True)])

    def pixel_loss(cosines, own):
        terms = []
        for k, cosine in enumerate(cosines):
            if k != own:
                terms.append(term(cosine, cosines[own], margin))
            elif self_term:
                terms.append(term(1.0, cosines[own], margin))
        return sum(sorted(terms, reverse=True)[:topk])

    cae = iae = 0.0
    for n, x, y, raw_embedding, category, instance in pixels:
        embedding = unit(raw_embedding)
        if len(rows) > S:
            cae += pixel_loss([dot(embedding, row) for row in rows], category)
        if category >= S and instance < 0:
            continue
        cosines = [dot(embedding, row) for row in rows[:S]]
        own = category
        for k, (x1, y1, x2, y2) in enumerate(targets[n].boxes.tolist()):
            members = [p[3] for p in pixels if p[0] == n and p[5] == k]
            if not members:
                continue
            if k == instance:
                own = len(cosines)
            half_x, half_y = (filter_scale or math.inf) * (x2 - x1) / 2, (filter_scale or math.inf) * (y2 - y1) / 2
            inside = abs(x + 0.5 - (x1 + x2) / 2) <= half_x and abs(y + 0.5 - (y1 + y2) / 2) <= half_y
            mean = unit([sum(column) for column in zip(*members, strict=True)])
            cosines.append(dot(embedding, mean) if inside or k == instance else 0.0)
        iae += (5 if instance >= 0 else 1) * pixel_loss(cosines, own)
    return cae / len(pixels), 2 * iae / len(pixels), rows


@pytest.mark.parametrize(
    'options', [dict(), dict(self_term=False), dict(filter_scale=None), dict(filter_scale=1.0), dict(stride=2)]
)
@pytest.mark.parametrize('num_rows', [S + 1, S])
def test_losses_are_those_of_a_plain_double_loop(options, num_rows):
    """Three images with void, crowds, and one without instances; the memory is updated first."""
    raw, targets, memory = raw_maps(), scene(), memory_of(num_rows)
    cae, iae, rows = plain_losses(raw, targets, memory.embeddings.tolist(), **options)
    losses = CIAELoss(block_size=50, **options)(raw, targets, memory, S)
    assert losses['loss_iae'].item() == pytest.approx(iae, abs=1e-6)
    if num_rows == S:
        assert set(losses) == {'loss_iae'}
    else:
        assert losses['loss_cae'].item() == pytest.approx(cae, abs=1e-6)
    assert torch.allclose(memory.embeddings, torch.tensor(rows, dtype=torch.float64), atol=1e-6)


def with_constant_means(raw, targets, rows):
    """The sum of both losses, pixel by pixel, for autograd: means of instances are constants, embeddings are not."""
    margin, total, count = 0.15, 0.0, 0

    def pixel_loss(cosines, own):
        violations = (cosines - cosines[own] + margin).clamp(min=0)
        violations = torch.where(torch.arange(len(cosines)) == own, 1 - cosines[own] + margin, violations)
        return -(1 - violations / (2 + margin)).log().topk(min(5, len(cosines)), largest=False).values.sum()

    for image, its in zip(raw, targets, strict=True):
        height, width = its.categories.shape
        large = F.interpolate(image[None], scale_factor=4, mode='bilinear', align_corners=False)[0, :, :height, :width]
        seen = [k for k in range(len(its.boxes)) if (its.instances == k).any()]
        means = [F.normalize(large[:, its.instances == k].sum(1), dim=0).detach() for k in seen]
        queries = torch.stack([*rows[:S], *means])
        boxes = enlarge_boxes(its.boxes, 1.5)
        for y, x in (its.categories >= 0).nonzero().tolist():
            embedding = F.normalize(large[:, y, x], dim=0)
            category, instance = its.categories[y, x].item(), its.instances[y, x].item()
            total, count = total + pixel_loss(rows @ embedding, category), count + 1
            if category < S or instance >= 0:
                far = [
                    k != instance and not (x1 <= x + 0.5 <= x2 and y1 <= y + 0.5 <= y2)
                    for k, (x1, y1, x2, y2) in enumerate(boxes.tolist())
                    if k in seen
                ]
                cosines = torch.where(torch.tensor([False] * S + far), 0.0, queries @ embedding)
                own = category if instance < 0 else S + seen.index(instance)
                total = total + 2 * (5 if instance >= 0 else 1) * pixel_loss(cosines, own)
    return total / count


@pytest.mark.parametrize('detach', [False, True])
def test_gradient_of_the_losses(detach):
    """With and without a gradient through the mean queries."""
    raw, targets, memory = raw_maps(2).requires_grad_(), scene(2), memory_of(S + 1).eval()
    loss = CIAELoss(detach_queries=detach)

    def function(raw):
        return tuple(loss(raw, targets, memory, S).values())

    if not detach:
        assert torch.autograd.gradcheck(function, raw)
        return
    (constant,) = torch.autograd.grad(sum(function(raw)), raw)
    (expected,) = torch.autograd.grad(with_constant_means(raw, targets, memory.embeddings), raw)
    torch.testing.assert_close(constant, expected)
    (full,) = torch.autograd.grad(sum(CIAELoss()(raw, targets, memory, S).values()), raw)
    assert not torch.allclose(constant, full)


def test_without_things_iae_is_alpha_times_cae_over_stuff():
    targets = [EmbeddingTargets(torch.randint(0, S, (12, 16)), torch.full((12, 16), -1), torch.zeros(0, 4))]
    raw, memory = raw_maps(1), memory_of(S + 1).eval()
    losses = CIAELoss()(raw, targets, memory, S)
    pixels = F.interpolate(raw, scale_factor=4, mode='bilinear', align_corners=False)[0].flatten(1)
    over_stuff = loss_of(pixels, memory.embeddings[:S], targets[0].categories.flatten()) / pixels.size(1)
    assert losses['loss_iae'].item() == pytest.approx(2 * over_stuff.item(), abs=1e-12)
    assert losses['loss_cae'] > over_stuff, 'the row of things is a negative there'


def test_weight_of_things_is_in_iae_alone():
    raw, targets, memory = raw_maps(2), scene(2), memory_of(S + 1).eval()
    light, heavy = (CIAELoss(thing_weight=weight)(raw, targets, memory, S) for weight in (0.0, 5.0))
    assert light['loss_cae'] == heavy['loss_cae']
    middle = CIAELoss(thing_weight=2.5)(raw, targets, memory, S)['loss_iae']
    assert middle.item() == pytest.approx((light['loss_iae'] + heavy['loss_iae']).item() / 2, abs=1e-12)


def test_instances_only():
    """Beside a semantic branch stuff has no query: its pixels are in the count, the rest as before."""
    raw, targets = raw_maps(2).requires_grad_(), scene(2)
    losses = CIAELoss()(raw, targets)
    assert set(losses) == {'loss_iae'}
    count = sum((its.categories >= 0).sum() for its in targets)
    pixels = F.interpolate(raw, scale_factor=4, mode='bilinear', align_corners=False)[0, :, :10, :14].flatten(1)
    instances = targets[0].instances.flatten()
    seen = [0, 2]
    instances = torch.where(instances == 2, 1, instances)
    queries = mean_queries(segment_sums(pixels, instances, len(seen)))
    points = torch.stack(torch.meshgrid(torch.arange(14), torch.arange(10), indexing='xy')).flatten(1) + 0.5
    boxes = enlarge_boxes(targets[0].boxes[seen], 1.5)
    by_hand = 2 * 5 * loss_of(pixels, queries, instances, boxes=boxes, points=points) / count
    assert losses['loss_iae'].item() == pytest.approx(by_hand.item(), abs=1e-9)
    nothing = CIAELoss()(raw[1:], scene(1))['loss_iae']
    nothing.backward()
    assert nothing == 0
    assert (raw.grad == 0).all()


def test_batch_without_any_label():
    targets = [EmbeddingTargets(torch.full((12, 16), -1), torch.full((12, 16), -1), torch.zeros(0, 4))]
    raw, memory = raw_maps(1).requires_grad_(), memory_of(S + 1)
    before = memory.embeddings.clone()
    losses = CIAELoss()(raw, targets, memory, S)
    sum(losses.values()).backward()
    assert losses['loss_cae'] == losses['loss_iae'] == 0
    assert (raw.grad == 0).all()
    assert torch.equal(memory.embeddings, before)


def test_ground_truth_larger_than_the_map():
    with pytest.raises(ValueError, match='do not cover ground truth of 13x16'):
        size = (13, 16)
        targets = EmbeddingTargets(torch.zeros(size, dtype=torch.long), torch.full(size, -1), torch.zeros(0, 4))
        CIAELoss()(raw_maps(1), [targets], memory_of(S + 1), S)


def test_half_precision_is_not_used():
    raw, targets, memory = raw_maps(2, dtype=torch.float32), scene(2), memory_of(S + 1).float().eval()
    expected = CIAELoss()(raw.bfloat16().float(), targets, memory, S)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses = CIAELoss()(raw.bfloat16(), targets, memory, S)
    for name, value in losses.items():
        assert value.dtype == torch.float32
        assert value == expected[name]


T = 2


def sample(sem_seg, masks, labels, boxes=None, size=None):
    result = DetDataSample(metainfo=dict(img_path='street.jpg'))
    result.gt_sem_seg = PixelData(sem_seg=torch.tensor(sem_seg, dtype=torch.uint8)[None])
    masks = np.array(masks, np.uint8).reshape(-1, *(size or np.shape(sem_seg)))
    result.gt_instances = InstanceData(
        bboxes=torch.zeros(len(masks), 4) if boxes is None else boxes,
        labels=torch.tensor(labels, dtype=torch.long),
        masks=BitmapMasks(masks, *masks.shape[-2:]),
    )
    return result


@pytest.mark.parametrize(('merge', 'things'), [(True, [3, 3]), (False, [3, 4])])
def test_targets_of_a_sample(merge, things):
    """T = 2 things, S = 3 stuff; one thing without an instance, void, padding that the masks lack."""
    sem_seg = [[0, 0, 1, 1, 255], [0, 2, 3, 4, 255], [255, 255, 255, 255, 255]]
    masks = [[[0, 0, 1, 0], [0, 0, 0, 0]], [[1, 1, 0, 0], [0, 0, 0, 0]]]
    targets = embedding_targets(sample(sem_seg, masks, [1, 0], size=(2, 4)), T, 3, merge)
    a, b = things
    assert targets.categories.tolist() == [[a, a, b, b, -1], [a, 0, 1, 2, -1], [-1] * 5]
    assert targets.instances.tolist() == [[1, 1, 0, -1, -1], [-1] * 5, [-1] * 5]


def test_targets_of_overlapping_masks():
    """The smallest has the pixel, of equal ones the first, of those of the pixel's class."""
    masks = [[[1, 1, 1, 1]], [[0, 1, 1, 0]], [[0, 0, 1, 1]], [[0, 1, 0, 0]]]
    targets = embedding_targets(sample([[0, 0, 0, 0]], masks, [0, 0, 0, 1]), T, 3)
    assert targets.instances.tolist() == [[0, 1, 1, 2]]


def test_targets_without_instances_and_with_unknown_labels():
    targets = embedding_targets(sample([[2, 3], [255, 4]], [], []), T, 3)
    assert targets.categories.tolist() == [[0, 1], [-1, 2]]
    assert (targets.instances == -1).all()
    assert targets.boxes.shape == (0, 4)
    with pytest.raises(ValueError, match=r'street.jpg has labels from 5 to 254'):
        embedding_targets(sample([[5, 3]], [], []), T, 3)
