import sys
import time
from pathlib import Path

import pytest
import torch
from fixtures.cityscapes import load_tool
from fixtures.tiny_model import ROOT, SHAPES, TinyModel, write_tiny_model
from mmengine.config import Config
from torch import nn

from mmpanoptic.datasets.shapes.writer import write_dataset
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
