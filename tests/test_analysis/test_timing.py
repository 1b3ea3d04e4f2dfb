"""Times of the parts of a prediction, and what is fused instead of what was detected."""

from types import SimpleNamespace

import pytest
import torch
from helpers.evidence import evidence_of, instances_of, no_instances
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import nn

from mmpanoptic.analysis import timing
from mmpanoptic.models import RankingFusion, SpatialRankingModule
from mmpanoptic.models.fusion.paste.instances import order_instances
from mmpanoptic.structures import EmbeddingMap, Evidence, StuffLogits

STUFF = StuffLogits(torch.zeros(2, 30, 20), 'stuff')


class Clock:
    """A clock that stands still unless something takes its time."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def wait(self, milliseconds: float) -> None:
        self.seconds += milliseconds / 1000


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timing, 'time', SimpleNamespace(perf_counter=lambda: clock.seconds))
    return clock


class Model(nn.Module):
    """Finds nothing in images of 30x20 pixels, which it sees at 60x40; takes 5 ms, for the first image 200."""

    def __init__(self, clock: Clock, fusion: object) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.panoptic_fusion_head = fusion
        self.clock, self.seen = clock, []

    def data_preprocessor(self, data: dict, training: bool) -> dict:
        assert not training
        return data

    def evidence(self, inputs: list, data_samples: list) -> list[Evidence]:
        self.seen.append(data_samples)
        self.clock.wait(200 if len(self.seen) == 1 else 5)
        return [evidence_of(no_instances((30, 20)), STUFF, input_size=(60, 40))]


class Detector(nn.Module):
    """Has nothing to fuse, and takes 200 ms."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.clock = clock

    def test_step(self, data: dict) -> None:
        self.clock.wait(200)


def images(number: int) -> list[dict]:
    meta = dict(ori_shape=(30, 20))
    return [dict(inputs=torch.zeros(1), data_samples=DetDataSample(metainfo=meta)) for _ in range(number)]


def test_measure(clock: Clock):
    model = Model(clock, SimpleNamespace(predict=lambda evidence: clock.wait(15)))
    inputs = images(3)
    times = [timing.time_prediction(model, [one]) for one in inputs]
    assert [samples for (samples,) in model.seen] == [one['data_samples'] for one in inputs]
    assert times[0] == pytest.approx(dict(network=200, fusion=15, total=215))
    for later in times[1:]:
        assert later == pytest.approx(dict(network=5, fusion=15, total=20))


def test_measure_a_batch(clock: Clock):
    model = Model(clock, SimpleNamespace(predict=lambda evidence: clock.wait(15 * len(evidence))))
    model.evidence = lambda inputs, samples: [Model.evidence(model, inputs, samples)[0] for _ in samples]
    assert timing.time_prediction(model, images(3)) == pytest.approx(dict(network=210, fusion=45, total=255))


def test_measure_without_fusion(clock: Clock):
    assert timing.time_prediction(Detector(clock), images(1)) == dict(total=pytest.approx(200))


class SlowModule(SpatialRankingModule):
    """Takes 10 ms for each strip."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(3)
        self.clock = clock

    def forward(self, *args) -> torch.Tensor:
        self.clock.wait(10)
        return super().forward(*args)


class SlowFusion(RankingFusion):
    """Takes 6 ms for the scores beside the module, and 8 for the merge."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(3, 2, stuff_area_limit=0, strip_pixels=20 * 15)
        self.ranking = SlowModule(clock)
        self.clock, self.fused = clock, []

    def ranking_scores(self, evidence: Evidence) -> torch.Tensor:
        self.clock.wait(6)
        return super().ranking_scores(evidence)

    def fuse(self, evidence: Evidence, order: list[int]) -> tuple:
        self.clock.wait(8)
        result = super().fuse(evidence, order)
        self.fused.append((order, result[1]))
        return result


def test_measure_ranking(clock: Clock, monkeypatch: pytest.MonkeyPatch):
    def slow_order(*args) -> list[int]:
        clock.wait(4)
        return order_instances(*args)

    monkeypatch.setattr(timing, 'order_instances', slow_order)
    head = SlowFusion(clock)
    model = Model(clock, head)
    whole = instances_of(torch.ones(2, 30, 20, dtype=torch.bool), [2, 0], [1, 0.9])
    model.seen.append(None)  # not the first image
    times = timing.time_prediction(model, images(1), draw={(30, 20): whole}.get)
    rows = 300 // 40  # of a strip, at the size of the network's input
    module = 10 * -(-60 // rows)
    expected = dict(network=5, fusion=module + 18, module=module, scores=6, order=4, merge=8, total=module + 23)
    assert times == pytest.approx(expected)
    order, segments = head.fused[-1]
    assert {s['label'] for s in segments} & {0, 2}, 'the drawn ones were fused'
    assert order == head.order(evidence_of(whole, STUFF, input_size=(60, 40)))
    assert not head.ranking._forward_hooks and not head.ranking._forward_pre_hooks
    nothing_found = timing.time_prediction(model, images(1))
    assert nothing_found['module'] == nothing_found['scores'] == nothing_found['order'] == 0


def test_hooks_are_removed_where_the_module_fails():
    module = SpatialRankingModule(3)
    with pytest.raises(RuntimeError), timing.Stopwatch(torch.device('cpu')).of_module(module, 'module'):
        module(torch.zeros(1, 99, 2, 2))
    assert not module._forward_hooks and not module._forward_pre_hooks


def test_drawn_instances():
    drawn = timing.drawn_instances(100, 20, (80, 133), torch.device('cpu'))
    assert drawn.masks.shape == (100, 80, 133) and drawn.labels.bincount().tolist() == [5] * 20
    assert (drawn.masks.sum(0) > 1).any(), 'they overlap'
    assert drawn.scores.min() >= 0.9
    for mask, (left, top, right, bottom) in zip(drawn.masks, drawn.bboxes.tolist(), strict=True):
        assert mask.any() and 1 <= bottom - top <= 40 and 1 <= right - left <= 67
        rows, columns = mask.nonzero().T
        assert top - 0.5 <= rows.min() and rows.max() < bottom <= 80
        assert left - 0.5 <= columns.min() and columns.max() < right <= 133
    assert torch.equal(drawn.masks, timing.drawn_instances(100, 20, (80, 133), torch.device('cpu')).masks)


def test_drawn_instances_are_queries_of_embeddings():
    """The centre of the box, (15, 5) in the image, is the pixel (30, 10) of the input: in the map's column 7, row 2."""
    embedding = torch.zeros(3, 4, 9)
    embedding[0], embedding[1, :, 6:8] = 1, 2
    box = InstanceData(bboxes=torch.tensor([[10.0, 0, 20, 10]]))
    maps = EmbeddingMap(embedding, torch.zeros(2, 3))
    evidence = evidence_of(InstanceData(), maps, input_size=(16, 36), output_size=(8, 18))
    (query,) = timing.with_instances(evidence, box).instances.embeddings
    assert 'embeddings' not in box, 'what was drawn stays as it is'
    norm = (1 + 1.75**2) ** 0.5  # an eighth is column 8's
    assert query.tolist() == pytest.approx([1 / norm, 1.75 / norm, 0])
