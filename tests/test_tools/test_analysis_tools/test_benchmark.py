import json
from pathlib import Path

import pytest
import torch
from fixtures.tiny_model import CIAE, SHAPES, TinyModel
from helpers.repo import ROOT, load_tool, run_main
from mmengine.config import Config

from mmpanoptic.datasets.shapes.writer import write_dataset
from mmpanoptic.utils import UserError

TOOL = load_tool('analysis_tools/benchmark')


@pytest.mark.parametrize(
    ('config', 'size'),
    [('panoptic-fpn_r50_fpn_1x_coco', (800, 1333)), ('panoptic-fpn_r50_fpn_cityscapes', (1024, 2048))],
)
def test_input_size(config: str, size: tuple[int, int]):
    config = Config.fromfile(ROOT / f'configs/panoptic_fpn/{config}.py')
    assert TOOL.input_size(config) == size
    (one,) = TOOL.random_inputs(size, 1)
    assert one['inputs'].shape == (3, *size) and one['data_samples'].img_shape == size


def test_input_size_without_resize():
    pipeline = [dict(type='LoadImageFromFile'), dict(type='PackPanopticInputs')]
    with pytest.raises(UserError, match='--val'):
        TOOL.input_size(Config(dict(test_dataloader=dict(dataset=dict(pipeline=pipeline)))))


def test_report(tiny: TinyModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    monkeypatch.setenv('COLUMNS', '160')
    run_main(TOOL, monkeypatch, tiny.config, tiny.checkpoint, '--images', '2', '--warmup', '1', '--device', 'cpu')
    printed = capsys.readouterr().out
    assert '2 random batches of 192x288, on cpu' in printed
    for name in ('network', 'fusion', 'total', 'CPU', f'{torch.__version__}'):
        assert name in printed


def test_report_of_a_head_that_ranks(tiny: TinyModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    arguments = [tiny.config, '--images', '1', '--warmup', '0', '--device', 'cpu', '--instances', '9', '--classes', '3']
    fusion = 'model.panoptic_fusion_head'
    options = ['--cfg-options', f'{fusion}.type=RankingFusion', f'{fusion}.stride=4']
    monkeypatch.setenv('COLUMNS', '160')
    run_main(TOOL, monkeypatch, *arguments, *options)
    printed = capsys.readouterr().out
    assert '9 drawn instances of 3 classes' in printed and 'hardly any instances' not in printed
    assert all(f'│   {part} ' in printed for part in ('module', 'scores', 'order', 'merge'))


def test_drawn_instances_before_embeddings(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
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
    assert 'random weights' in printed and '2 validation batches' in printed


def test_number_of_images(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UserError, match='--images must be 1 or more'):
        run_main(TOOL, monkeypatch, SHAPES, '--images', '0')
    with pytest.raises(UserError, match='--instances and --classes must be 1 or more'):
        run_main(TOOL, monkeypatch, SHAPES, '--instances', '0')
    with pytest.raises(UserError, match='--batch-sizes and --size must be 1 or more'):
        run_main(TOOL, monkeypatch, SHAPES, '--batch-sizes', '1', '0')


@pytest.mark.slow
def test_training_and_mixed_precision(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path):
    out = tmp_path / 'measured.json'
    args = '--images', 1, '--warmup', 0, '--device', 'cpu', '--size', 96, 128, '--batch-sizes', 1, 2
    run_main(TOOL, monkeypatch, ROOT / CIAE, *args, '--train', '--amp', 'bfloat16', '--out', out)
    assert '1 random batches of 96x128, on cpu' in capsys.readouterr().out
    written = json.loads(out.read_text())
    assert written['environment']['torch'] == torch.__version__
    cases = [(row['what'], row['batch_size'], row['precision']) for row in written['rows']]
    assert cases == [
        (what, size, dtype)
        for what in ('inference', 'training')
        for size in (1, 2)
        for dtype in ('float32', 'bfloat16')
    ]
    for row in written['rows']:
        assert row['launches'] > 100 and row['resident'] > 100 and row['transfers'] == 0
        assert list(row['milliseconds']) == (['total'] if row['what'] == 'training' else ['network', 'fusion', 'total'])
