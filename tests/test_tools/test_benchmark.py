import sys
import time
from pathlib import Path

import pytest
import torch
from fixtures.cityscapes import load_tool
from fixtures.tiny_model import CIAE, ROOT, SHAPES, TinyModel, write_tiny_model
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch import nn

from mmpanoptic.datasets.shapes.writer import write_dataset
from mmpanoptic.models import EmbeddingMap, RankingFusion, SpatialRankingModule
from mmpanoptic.utils import UserError

TOOL = load_tool('analysis_tools/benchmark')


class Fusion:
    def predict(self, wait: float) -> float:
        time.sleep(wait)
        return wait


class Model(nn.Module):
    """Takes 20 ms, of which the fusion takes 15; the first image takes longer."""

    def __init__(self, fusion: bool) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        if fusion:
            self.panoptic_fusion_head = Fusion()
        self.seen = []

    def test_step(self, data: dict) -> None:
        self.seen.append(data)
        time.sleep(0.2 if len(self.seen) == 1 else 0.005)
        if hasattr(self, 'panoptic_fusion_head'):
            assert self.panoptic_fusion_head.predict(0.015) == 0.015


def test_measure():
    model = Model(fusion=True)
    times = TOOL.measure(model, [dict(inputs=torch.zeros(1), data_samples=i) for i in range(6)], warmup=1)
    assert [data['data_samples'] for data in model.seen] == [[i] for i in range(6)]
    assert {part: len(values) for part, values in times.items()} == {'network': 5, 'fusion': 5, 'total': 5}
    # Lower bounds only: the machine may be slow. The first image, of 200 ms, is not among them.
    assert min(times['fusion']) >= 15 and min(times['network']) >= 5
    assert min(times['fusion']) < min(times['total']) < 200
    for network, fusion, total in zip(*times.values(), strict=True):
        assert network + fusion == pytest.approx(total)
    assert 'predict' not in vars(model.panoptic_fusion_head)


def test_measure_without_fusion():
    times = TOOL.measure(Model(fusion=False), [dict(inputs=torch.zeros(1), data_samples=i) for i in range(3)], 0)
    assert list(times) == ['total'] and len(times['total']) == 3 and max(times['total']) >= 200


class SlowModule(SpatialRankingModule):
    def forward_window(self, *args) -> torch.Tensor:
        time.sleep(0.01)
        return super().forward_window(*args)


class SlowFusion(RankingFusion):
    """Waits 10 ms in each strip of the module, 6 for the scores, 4 for the order and 8 for the merge."""

    def __init__(self) -> None:
        super().__init__(3, 2, stuff_area_limit=0, strip_pixels=20 * 15)
        self.ranking = SlowModule(3)

    def ranking_scores(self, instances: InstanceData) -> torch.Tensor:
        time.sleep(0.006)
        return super().ranking_scores(instances)

    def order(self, instances: InstanceData) -> list[int]:
        time.sleep(0.004)
        return super().order(instances)

    def fuse(self, *args) -> tuple:
        time.sleep(0.008)
        return super().fuse(*args)


class RankingModel(nn.Module):
    """Finds nothing in images of 30x20 pixels, which the network sees at 60x40."""

    def __init__(self) -> None:
        super().__init__()
        self.panoptic_fusion_head = SlowFusion()

    def test_step(self, data: dict) -> None:
        time.sleep(0.005)
        nothing = InstanceData(
            masks=torch.zeros(0, 30, 20, dtype=torch.bool),
            labels=torch.zeros(0, dtype=torch.long),
            scores=torch.ones(0),
        )
        nothing.set_metainfo(dict(img_shape=(60, 40)))
        (self.result,) = self.panoptic_fusion_head.predict([nothing], [torch.zeros(2, 30, 20)])


def test_measure_ranking():
    model = RankingModel()
    inputs = [dict(inputs=torch.zeros(1), data_samples=DetDataSample(metainfo=dict(ori_shape=(30, 20))))] * 2
    whole = InstanceData(
        masks=torch.ones(2, 30, 20, dtype=torch.bool), labels=torch.tensor([2, 0]), scores=torch.tensor([1, 0.9])
    )
    times = TOOL.measure(model, inputs, warmup=1, draw={(30, 20): whole}.get)
    assert {s['label'] for s in model.result.segments_info} & {0, 2}  # the drawn ones were fused
    image = {part: value for part, (value,) in times.items()}
    strips = 60 * 40 // 300  # at the size of the network's input
    least = dict(network=5, module=10 * strips, scores=6, order=4, merge=8)
    assert list(image) == ['network', 'fusion', 'module', 'scores', 'order', 'merge', 'total']
    assert all(image[part] >= value for part, value in least.items())
    assert sum(image[part] for part in ('module', 'scores', 'order', 'merge')) == pytest.approx(image['fusion'])
    assert image['network'] + image['fusion'] == pytest.approx(image['total'])
    head = model.panoptic_fusion_head
    assert not {'predict', 'order', 'ranking_scores'} & {*vars(head)} and 'forward_window' not in vars(head.ranking)
    nothing_found = TOOL.measure(model, inputs[:1], warmup=0)
    assert nothing_found['module'] == nothing_found['scores'] == nothing_found['order'] == [0]


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
    arguments = [tiny.config, tiny.checkpoint, '--images', '2', '--warmup', '1', '--device', 'cpu']
    monkeypatch.setattr(sys, 'argv', ['benchmark.py', *arguments])
    TOOL.main()
    printed = capsys.readouterr().out
    assert '2 random images, the first of 192x288, on cpu' in printed
    for name in ('network', 'fusion', 'total', 'CPU', f'{torch.__version__}'):
        assert name in printed


def test_report_of_a_head_that_ranks(tiny: TinyModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    arguments = [tiny.config, '--images', '1', '--warmup', '0', '--device', 'cpu', '--instances', '9', '--classes', '3']
    fusion = 'model.panoptic_fusion_head'
    options = ['--cfg-options', f'{fusion}.type=RankingFusion', f'{fusion}.stride=4']
    monkeypatch.setattr(sys, 'argv', ['benchmark.py', *arguments, *options])
    TOOL.main()
    printed = capsys.readouterr().out
    assert '9 drawn instances of 3 classes' in printed and 'hardly an instance' not in printed
    assert all(f'│   {part} ' in printed for part in ('module', 'scores', 'order', 'merge'))


def test_drawn_instances_are_queries_of_embeddings(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    """The centre of the box, (15, 5) in the image, is the pixel (30, 10) of the input: in the map's column 7, row 2."""
    embedding = torch.zeros(3, 4, 9)
    embedding[0], embedding[1, :, 6:8] = 1, 2
    box = InstanceData(bboxes=torch.tensor([[10.0, 0, 20, 10]]))
    maps = EmbeddingMap(embedding, torch.zeros(2, 3), size=(8, 18), scale=(2.0, 2.0))
    (query,) = TOOL.with_queries(box, maps).embeddings
    norm = (1 + 1.75**2) ** 0.5  # an eighth is column 8's
    assert query.tolist() == pytest.approx([1 / norm, 1.75 / norm, 0])

    arguments = [str(ROOT / CIAE), '--images', '1', '--warmup', '0', '--device', 'cpu', '--instances', '9']
    monkeypatch.setattr(sys, 'argv', ['benchmark.py', *arguments])
    TOOL.main()
    assert '9 drawn instances of 7 classes' in capsys.readouterr().out


def test_random_weights_on_validation_images(
    tiny: TinyModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
):
    write_dataset(tmp_path / 'shapes', dict(train=1, val=1), (96, 128))
    options = ['--cfg-options', f'val_dataloader.dataset.data_root={tmp_path / "shapes"}/']
    monkeypatch.setattr(sys, 'argv', ['benchmark.py', tiny.config, '--val', '--images', '2', '--warmup', '0', *options])
    TOOL.main()
    printed = capsys.readouterr().out
    assert 'random weights' in printed and '2 validation images, the first of 192x256' in printed


def test_number_of_images(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, 'argv', ['benchmark.py', SHAPES, '--images', '0'])
    with pytest.raises(UserError, match='--images must be 1 or more'):
        TOOL.main()
    monkeypatch.setattr(sys, 'argv', ['benchmark.py', SHAPES, '--instances', '0'])
    with pytest.raises(UserError, match='--instances and --classes must be 1 or more'):
        TOOL.main()
