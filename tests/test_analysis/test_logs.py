"""Curves, scores and configs of work dirs, written here by hand as mmengine writes them."""

import json
from pathlib import Path

import pytest
from PIL import Image

from mmpanoptic.analysis.logs import (
    Curve,
    choose_keys,
    differences,
    draw_curves,
    flatten,
    read_config,
    read_curves,
    read_scores,
)
from mmpanoptic.utils import UserError


def write_run(work_dir: Path, time: str, lines: list[dict], test: dict | None = None) -> Path:
    """A run as it lies in a work dir; its folder."""
    folder = work_dir / time
    (folder / 'vis_data').mkdir(parents=True)
    (folder / 'vis_data/config.py').write_text(f'work_dir = {str(work_dir)!r}\nmodel = dict(type="X")\n')
    if lines:
        (folder / 'vis_data/scalars.json').write_text(''.join(f'{json.dumps(line)}\n' for line in lines))
    if test is not None:
        (folder / f'{time}.json').write_text(json.dumps(test))
    return folder


def train(iteration: int, loss: float) -> dict:
    return dict(lr=0.1, loss=loss, epoch=1 + (iteration - 1) // 4, iter=iteration, step=iteration)


def val(epoch: int, pq: float) -> dict:
    return {'panoptic/PQ': pq, 'time': 1.0, 'step': epoch}


FIRST = [train(2, 5.0), train(4, 4.0), val(1, 10.0), train(6, 3.0)]
RESUMED = [train(5, 3.5), train(8, 2.0), val(2, 20.0)]


def test_curves_of_a_training_that_was_resumed(tmp_path):
    write_run(tmp_path, '20260101_000000', FIRST)
    write_run(tmp_path, '20260101_000001', RESUMED)
    curves = read_curves(tmp_path)
    assert curves['loss'] == Curve((2, 4, 5, 8), (5.0, 4.0, 3.5, 2.0))
    assert curves['panoptic/PQ'] == Curve((4, 8), (10.0, 20.0)), 'scores stand at the iteration that was done'
    assert 'iter' not in curves and 'step' not in curves


def test_a_line_that_was_cut_off_and_one_that_is_wrong(tmp_path):
    folder = write_run(tmp_path, '20260101_000000', FIRST)
    file = folder / 'vis_data/scalars.json'
    whole = file.read_text()
    file.write_text(whole + '{"loss": 1.')
    assert read_curves(tmp_path)['loss'].values[-1] == 3.0
    file.write_text('{"loss": 1.\n' + whole)
    with pytest.raises(UserError, match=r'scalars\.json:1 is no line of a log'):
        read_curves(tmp_path)


@pytest.mark.parametrize('read', [read_curves, read_scores, read_config])
def test_folders_without(read, tmp_path):
    for folder in (tmp_path, tmp_path / 'none'):
        with pytest.raises(UserError, match=f'^{folder} (holds no|is no folder)'):
            read(folder)


def test_keys(tmp_path):
    runs = {'a': {'loss': Curve((1,), (1.0,)), 'lr': Curve((1,), (1.0,))}, 'b': {'panoptic/PQ': Curve((1,), (1.0,))}}
    assert choose_keys(runs, None) == ['loss', 'panoptic/PQ']
    assert choose_keys({'a': {'lr': runs['a']['lr']}}, None) == ['lr']
    assert choose_keys(runs, ['lr']) == ['lr']
    with pytest.raises(UserError, match='los was not logged: there are loss, lr, panoptic/PQ'):
        choose_keys(runs, ['los'])


def test_picture(tmp_path):
    runs = {'a': {'loss': Curve((1, 2), (2.0, 1.0))}, 'b': {'loss': Curve((1,), (3.0,)), 'x': Curve((1,), (3.0,))}}
    draw_curves(runs, ['loss', 'x'], tmp_path / 'out.png')
    width, height = Image.open(tmp_path / 'out.png').size
    assert width > 2 * height
    with pytest.raises(UserError, match='must end in one of'):
        draw_curves(runs, ['loss'], tmp_path / 'out.txt')
    assert [path.name for path in tmp_path.iterdir()] == ['out.png']


def test_scores_are_the_newest(tmp_path):
    write_run(tmp_path, '20260101_000000', FIRST)
    assert read_scores(tmp_path) == {'panoptic/PQ': 10.0}
    write_run(tmp_path, '20260101_000001', RESUMED)
    assert read_scores(tmp_path) == {'panoptic/PQ': 20.0}
    write_run(tmp_path, '20260101_000002', [], {'panoptic/PQ': 30.0, 'coco/bbox_mAP': 0.1, 'time': 1.0})
    assert read_scores(tmp_path) == {'panoptic/PQ': 30.0, 'coco/bbox_mAP': 0.1}


def test_the_config_is_that_of_the_training(tmp_path):
    write_run(tmp_path, '20260101_000000', FIRST)
    folder = write_run(tmp_path, '20260101_000001', [], {})
    (folder / 'vis_data/config.py').write_text('model = dict(type="Y")\n')
    assert read_config(tmp_path).model.type == 'X'


def test_differences():
    one = flatten({'a': {'b': 1, 'c': [1, {'d': 2}]}, 'e': [], 'f': {}})
    assert one == {'a.b': 1, 'a.c.0': 1, 'a.c.1.d': 2, 'e': [], 'f': {}}
    other = flatten({'a': {'b': 1, 'c': [1, {'d': 3}]}, 'e': [], 'g': None})
    assert differences(one, other) == {'a.c.1.d': (2, 3), 'f': ({}, None)}
