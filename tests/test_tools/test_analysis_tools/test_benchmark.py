from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from fixtures.tiny_model import CIAE, SHAPES, TinyModel, write_tiny_model
from helpers.evidence import evidence_of, instances_of, no_instances
from helpers.repo import ROOT, load_tool, run_main
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch import nn

from mmpanoptic.datasets.shapes.writer import write_dataset
from mmpanoptic.models import RankingFusion, SpatialRankingModule
from mmpanoptic.models.fusion.paste.instances import order_instances
from mmpanoptic.structures import EmbeddingMap, Evidence, StuffLogits
from mmpanoptic.utils import UserError

TOOL = load_tool('analysis_tools/benchmark')
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
    monkeypatch.setattr(TOOL, 'time', SimpleNamespace(perf_counter=lambda: clock.seconds))
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
    inputs = images(6)
    times = TOOL.measure(model, inputs, warmup=1)
    assert [samples for (samples,) in model.seen] == [one['data_samples'] for one in inputs]
    expected = dict(network=5 * [5], fusion=5 * [15], total=5 * [20])  # the first image is not among them
    assert times == {part: pytest.approx(values) for part, values in expected.items()}


def test_measure_without_fusion(clock: Clock):
    assert TOOL.measure(Detector(clock), images(3), 0) == dict(total=pytest.approx([200] * 3))


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

    monkeypatch.setattr(TOOL, 'order_instances', slow_order)
    head = SlowFusion(clock)
    model = Model(clock, head)
    whole = instances_of(torch.ones(2, 30, 20, dtype=torch.bool), [2, 0], [1, 0.9])
    times = TOOL.measure(model, images(2), warmup=1, draw={(30, 20): whole}.get)
    rows = 300 // 40  # of a strip, at the size of the network's input
    module = 10 * -(-60 // rows)
    expected = dict(network=5, fusion=module + 18, module=module, scores=6, order=4, merge=8, total=module + 23)
    assert times == {part: pytest.approx([value]) for part, value in expected.items()}
    assert list(times) == list(expected)
    order, segments = head.fused[-1]
    assert {s['label'] for s in segments} & {0, 2}, 'the drawn ones were fused'
    assert order == head.order(evidence_of(whole, STUFF, input_size=(60, 40)))
    assert not head.ranking._forward_hooks and not head.ranking._forward_pre_hooks
    nothing_found = TOOL.measure(model, images(1), warmup=0)
    assert nothing_found['module'] == nothing_found['scores'] == nothing_found['order'] == [0]


def test_hooks_are_removed_where_the_module_fails():
    module = SpatialRankingModule(3)
    with pytest.raises(RuntimeError), TOOL.Stopwatch(torch.device('cpu')).of_module(module, 'module'):
        module(torch.zeros(1, 99, 2, 2))
    assert not module._forward_hooks and not module._forward_pre_hooks


def test_drawn_instances():
    drawn = TOOL.drawn_instances(100, 20, (80, 133), torch.device('cpu'))
    assert drawn.masks.shape == (100, 80, 133) and drawn.labels.bincount().tolist() == [5] * 20
    assert (drawn.masks.sum(0) > 1).any(), 'they overlap'
    assert drawn.scores.min() >= 0.9
    for mask, (left, top, right, bottom) in zip(drawn.masks, drawn.bboxes.tolist(), strict=True):
        assert mask.any() and 1 <= bottom - top <= 40 and 1 <= right - left <= 67
        rows, columns = mask.nonzero().T
        assert top - 0.5 <= rows.min() and rows.max() < bottom <= 80
        assert left - 0.5 <= columns.min() and columns.max() < right <= 133
    assert torch.equal(drawn.masks, TOOL.drawn_instances(100, 20, (80, 133), torch.device('cpu')).masks)


@pytest.mark.parametrize(
    ('config', 'size'),
    [('panoptic-fpn_r50_fpn_1x_coco', (800, 1333)), ('panoptic-fpn_r50_fpn_cityscapes', (1024, 2048))],
)
def test_input_size(config: str, size: tuple[int, int]):
    config = Config.fromfile(ROOT / f'configs/panoptic_fpn/{config}.py')
    assert TOOL.input_size(config) == size
    (one,) = TOOL.random_inputs(config, 1)
    assert one['inputs'].shape == (3, *size) and one['data_samples'].img_shape == size


def test_input_size_without_resize():
    pipeline = [dict(type='LoadImageFromFile'), dict(type='PackPanopticInputs')]
    with pytest.raises(UserError, match='--val'):
        TOOL.input_size(Config(dict(test_dataloader=dict(dataset=dict(pipeline=pipeline)))))


@pytest.fixture(scope='module')
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    return write_tiny_model(tmp_path_factory.mktemp('tiny'))


def test_report(tiny: TinyModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    monkeypatch.setenv('COLUMNS', '100')
    run_main(TOOL, monkeypatch, tiny.config, tiny.checkpoint, '--images', '2', '--warmup', '1', '--device', 'cpu')
    printed = capsys.readouterr().out
    assert '2 random images, the first of 192x288, on cpu' in printed
    for name in ('network', 'fusion', 'total', 'CPU', f'{torch.__version__}'):
        assert name in printed


def test_report_of_a_head_that_ranks(tiny: TinyModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    arguments = [tiny.config, '--images', '1', '--warmup', '0', '--device', 'cpu', '--instances', '9', '--classes', '3']
    fusion = 'model.panoptic_fusion_head'
    options = ['--cfg-options', f'{fusion}.type=RankingFusion', f'{fusion}.stride=4']
    run_main(TOOL, monkeypatch, *arguments, *options)
    printed = capsys.readouterr().out
    assert '9 drawn instances of 3 classes' in printed and 'hardly an instance' not in printed
    assert all(f'│   {part} ' in printed for part in ('module', 'scores', 'order', 'merge'))


def test_drawn_instances_are_queries_of_embeddings(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    """The centre of the box, (15, 5) in the image, is the pixel (30, 10) of the input: in the map's column 7, row 2."""
    embedding = torch.zeros(3, 4, 9)
    embedding[0], embedding[1, :, 6:8] = 1, 2
    box = InstanceData(bboxes=torch.tensor([[10.0, 0, 20, 10]]))
    maps = EmbeddingMap(embedding, torch.zeros(2, 3))
    evidence = evidence_of(InstanceData(), maps, input_size=(16, 36), output_size=(8, 18))
    (query,) = TOOL.with_instances(evidence, box).instances.embeddings
    assert 'embeddings' not in box, 'what was drawn stays as it is'
    norm = (1 + 1.75**2) ** 0.5  # an eighth is column 8's
    assert query.tolist() == pytest.approx([1 / norm, 1.75 / norm, 0])

    args = '--images', 1, '--warmup', 0, '--device', 'cpu', '--instances', 9
    run_main(TOOL, monkeypatch, ROOT / CIAE, *args)
    assert '9 drawn instances of 7 classes' in capsys.readouterr().out


def test_random_weights_on_validation_images(
    tiny: TinyModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
):
    write_dataset(tmp_path / 'shapes', dict(train=1, val=1), (96, 128))
    options = ['--cfg-options', f'val_dataloader.dataset.data_root={tmp_path / "shapes"}/']
    run_main(TOOL, monkeypatch, tiny.config, '--val', '--images', '2', '--warmup', '0', *options)
    printed = capsys.readouterr().out
    assert 'random weights' in printed and '2 validation images, the first of 192x256' in printed


def test_number_of_images(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UserError, match='--images must be 1 or more'):
        run_main(TOOL, monkeypatch, SHAPES, '--images', '0')
    with pytest.raises(UserError, match='--instances and --classes must be 1 or more'):
        run_main(TOOL, monkeypatch, SHAPES, '--instances', '0')
