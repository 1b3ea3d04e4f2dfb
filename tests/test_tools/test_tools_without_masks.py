"""The tools on a model without masks of instances: what works, and what is refused with one line."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from fixtures.tiny_model import CIAE, TinyModel, write_tiny_model
from helpers.repo import load_tool, run_main

from mmpanoptic.engine import cli


@pytest.fixture(scope='module')
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    return write_tiny_model(tmp_path_factory.mktemp('ciae'), CIAE)


@pytest.fixture
def run(tiny: TinyModel, tiny_shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Runs a tool in this process, on the validation images of 96x128."""
    monkeypatch.chdir(tmp_path)

    def run(name: str, *args: str | Path, options: tuple[str, ...] = ()) -> None:
        dataset = dict(data_root=f'{tiny_shapes}/', ann_file='annotations/panoptic_val.json')
        own = [f'test_dataloader.dataset.{key}={value}' for key, value in dataset.items()]
        own += ['test_dataloader.num_workers=0', 'test_dataloader.persistent_workers=False']
        arguments = [tiny.config, tiny.checkpoint, *args, '--cfg-options', *own, *options]
        cli.run(lambda: run_main(load_tool(name), monkeypatch, *arguments))

    return run


def error_of(capsys: pytest.CaptureFixture) -> str:
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith('error: '))
    return line


def test_metrics_and_pictures(run: Callable, tmp_path: Path):
    run('test', '--eval', 'PQ', 'mIoU', 'bbox', '--work-dir', 'work', '--show-dir', 'pictures', '--out', 'all.pkl')
    (scores,) = (json.loads(path.read_text()) for path in tmp_path.glob('work/*/*.json'))
    assert {'panoptic/PQ', 'semantic/mIoU', 'coco/bbox_mAP'} <= set(scores)
    assert len(list((tmp_path / 'pictures').glob('*.png'))) == 5
    assert (tmp_path / 'all.pkl').is_file()


def test_the_oracle_is_tested(run: Callable, tmp_path: Path):
    run('test', '--eval', 'PQ', 'bbox', '--work-dir', 'work', options=('model.oracle=True',))
    (scores,) = (json.loads(path.read_text()) for path in tmp_path.glob('work/*/*.json'))
    assert scores['coco/bbox_mAP'] == 1


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (('--eval', 'segm'), 'predicts no masks of instances, so segm cannot be scored: leave it out'),
        (('--tta',), '--tta: the config has no tta_model'),
        (('--eval', 'cityscapes'), 'no CityscapesInstanceMetric'),
    ],
)
def test_what_needs_masks_is_refused(run: Callable, capsys: pytest.CaptureFixture, args, message):
    with pytest.raises(SystemExit):
        run('test', *args, '--work-dir', 'work')
    assert message in error_of(capsys)


def test_images_are_predicted(run: Callable, tiny: TinyModel, tmp_path: Path):
    run('predict', tiny.images, '--out', tmp_path / 'out', '--device', 'cpu')
    content = json.loads((tmp_path / 'out/panoptic.json').read_text())
    assert len(content['annotations']) == len(list((tmp_path / 'out/pictures').glob('*.png'))) == 3
    assert any(annotation['segments_info'] for annotation in content['annotations'])


def test_the_oracle_predicts_no_images(run: Callable, tiny: TinyModel, tmp_path: Path, capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit):
        run('predict', tiny.images, '--out', tmp_path / 'out', '--device', 'cpu', options=('model.oracle=True',))
    assert 'the oracle needs ground truth' in error_of(capsys)
    assert not (tmp_path / 'out').exists()


def test_orders_of_masks_are_not_compared(run: Callable, capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit):
        run('analysis_tools/fusion_orders', '--device', 'cpu')
    assert 'CIAE predicts no masks that could overlap' in error_of(capsys)
