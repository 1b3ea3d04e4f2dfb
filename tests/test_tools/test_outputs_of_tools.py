"""What tools do to an earlier result when the disk is full, when they are killed, and when two write at once."""

import io
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
import torch
from fixtures.cityscapes import make_cityscapes_tree
from fixtures.mapillary import make_mapillary_tree
from fixtures.tiny_model import CIAE, SHAPES, SPATIALFLOW, write_tiny_model
from fixtures.tiny_run import write_config
from helpers.repo import load_tool
from mmengine.config import Config

from mmpanoptic.apis import load_model
from mmpanoptic.datasets.shapes.categories import CATEGORIES
from mmpanoptic.engine import cli
from mmpanoptic.engine.released_checkpoints import save_converted
from mmpanoptic.evaluation.metrics.panoptic_metric import PanopticMetric
from mmpanoptic.formats.panoptic_json import dataset_meta, parse_categories

pytestmark = pytest.mark.slow


class Writer(NamedTuple):
    """A tool and what it writes.

    Attributes:
        main: Runs it.
        out: The file or folder that it writes last.
        limit: Bytes that a file may have until the disk counts as full: fewer than ``out`` has, more than logs and the
            copies of configs that mmengine makes.
        before: Called before it writes again, where a tool does nothing if its result is complete.
        scratch: Whether it needs as much space for temporary files as for ``out``.
    """

    main: Callable[[], None]
    out: Path
    limit: int = 300
    before: Callable[[], None] = lambda: None
    scratch: bool = False


def tool(name: str, *args: object) -> Callable[[], None]:
    module = load_tool(name)

    def main() -> None:
        sys.argv = [name, *map(str, args)]
        module.main() if hasattr(module, 'main') else module.run(module.parse_args())

    return main


@pytest.fixture(scope='session')
def tiny_models(tmp_path_factory) -> Callable:
    made = {}

    def get(base: str):
        if base not in made:
            made[base] = write_tiny_model(tmp_path_factory.mktemp('tiny'), base)
        return made[base]

    return get


@pytest.fixture(scope='session')
def untrained(tmp_path_factory, tiny_shapes) -> tuple[Path, Path]:
    """A config that tests on Shapes, and a checkpoint."""
    folder = tmp_path_factory.mktemp('untrained')
    config = write_config(folder / 'tiny.py', tiny_shapes)
    model, _ = load_model(Config.fromfile(config), device='cpu')
    meta = dict(dataset_meta=dataset_meta(parse_categories(list(CATEGORIES), 'categories')))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), folder / 'tiny.pth')
    return config, folder / 'tiny.pth'


def shapes(root, **_):
    out = root / 'out'
    return Writer(tool('dataset_converters/shapes', out, '--train', 1, '--val', 1, '--size', 96, 128), out)


def predict(root, tiny_models, **_):
    tiny, out = tiny_models(SHAPES), root / 'out'
    return Writer(
        tool('predict', tiny.config, tiny.checkpoint, tiny.images, '--out', out, '--device', 'cpu'), out, 30_000
    )


def activation_maps(root, tiny_models, **_):
    tiny, out = tiny_models(SPATIALFLOW), root / 'out'
    args = tiny.config, tiny.checkpoint, tiny.images / '07.png', '--out', out, '--device', 'cpu'
    return Writer(tool('analysis_tools/activation_maps', *args), out, 30_000)


def embedding_pictures(root, tiny_models, **_):
    tiny, out = tiny_models(CIAE), root / 'out'
    args = tiny.config, tiny.checkpoint, tiny.images / '07.png', '--out', out, '--device', 'cpu'
    return Writer(tool('analysis_tools/embedding_pictures', *args), out, 30_000)


def label_maps(root, **_):
    for folder in ('images', 'labels'):
        (root / folder).mkdir(parents=True)
        for name in ('a.png', 'b.png'):
            cv2.imwrite(
                str(root / folder / name), np.kron(np.arange(4).reshape(2, 2), np.ones((9, 9))).astype(np.uint8)
            )
    out = root / 'out' / 'cells.json'
    main = tool('dataset_converters/label_maps', root / 'images', root / 'labels', out, '--workers', 1)
    return Writer(main, out.with_suffix(''))


def cityscapes(root, **_):
    make_cityscapes_tree(root)
    out = root / 'gtFine' / 'cityscapes_panoptic_val'
    main = tool('dataset_converters/cityscapes', root, '--split', 'val', '--workers', 1)
    return Writer(main, out, 800, lambda: next(out.glob('*.png')).unlink(), scratch=True)


def cityscapes_polygons(root, **_):
    make_cityscapes_tree(root)
    main = tool('dataset_converters/cityscapes_polygons', root, '--split', 'val', '--workers', 1)
    return Writer(main, root / 'gtFine' / 'cityscapes_polygons_val.json')


def mapillary(root, **_):
    make_mapillary_tree(root / 'data')
    images = root / 'data' / 'training'

    def change():
        for path in (images / 'images' / 'b-2.jpg', images / 'instances' / 'b-2.png'):
            path.unlink(missing_ok=True)

    main = tool('dataset_converters/mapillary', root / 'data', '--split', 'training', '--workers', 1)
    return Writer(main, root / 'data' / 'annotations' / 'instances_training.json', before=change)


def test_dump(root, untrained, **_):
    work_dir = root / 'work'
    args = *untrained, '--work-dir', work_dir, '--eval', 'PQ', '--out', root / 'out' / 'all.pkl'
    return Writer(tool('test', *args), root / 'out' / 'all.pkl', 100_000)


def test_pictures(root, untrained, **_):
    args = *untrained, '--work-dir', root / 'work', '--eval', 'PQ', '--show-dir', root / 'out'
    options = '--cfg-options', 'default_hooks.visualization.max_images=1'
    return Writer(tool('test', *args, *options), root / 'out', 100_000)


def results(root, **_):
    def main():
        metric = PanopticMetric(format_only=True, outfile_prefix=str(root / 'out' / 'x'))
        metric.dataset_meta = dict(classes=['a'], categories=[dict(id=1, name='a', label=0, isthing=0)])
        ids = torch.zeros(1, 64, 64, dtype=torch.long)
        sample = dict(img_path='1.jpg', img_id=1, pred_panoptic_seg=dict(sem_seg=ids))
        metric.process({}, [sample])
        metric.evaluate(1)

    return Writer(main, root / 'out' / 'x.panoptic', 100)


FOLDERS = [shapes, predict, activation_maps, embedding_pictures, label_maps, cityscapes, test_pictures, results]
WRITERS = [*FOLDERS, cityscapes_polygons, mapillary, test_dump]
for function in (test_dump, test_pictures):
    function.__test__ = False


@pytest.fixture(params=WRITERS, ids=lambda function: function.__name__)
def writer(request, tmp_path, tiny_models, untrained) -> Writer:
    return request.param(tmp_path / 'x', tiny_models=tiny_models, untrained=untrained)


class Process:
    """A writer in a fork, so that nothing is imported twice.

    Args:
        main: What it runs.
        log: What it prints, stderr under the name with ``.err``.
        limit: See :class:`Writer`.
        hold: Name of an output: the process stops before this is on the disk, until ``go()``.
    """

    def __init__(self, main: Callable, log: Path, limit: int | None = None, hold: str | None = None) -> None:
        self.log, self.start = log, time.monotonic()
        self._held, self._go = log.with_suffix('.held'), log.with_suffix('.go')
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os._exit(self._run(main, limit, hold))
            finally:
                os._exit(99)

    def _run(self, main: Callable, limit: int | None, hold: str | None) -> int:
        printed, errors = sys.stdout, sys.stderr = io.StringIO(), io.StringIO()  # a file would be limited, too
        torch.set_num_threads(1)
        cv2.setNumThreads(0)
        if hold:
            self._hold(hold)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit or soft, hard))
        try:
            cli.run(main)
            code = 0
        except SystemExit as end:
            code = end.code
        except BaseException:
            traceback.print_exc()
            code = 98
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        self.log.write_text(printed.getvalue())
        self.log.with_suffix('.err').write_text(errors.getvalue())
        return code

    def _hold(self, name: str) -> None:
        fsync = os.fsync

        def held(file: int) -> None:
            if f'/.{name}.{os.getpid()}.part' in os.readlink(f'/proc/self/fd/{file}'):
                self._held.touch()
                while not self._go.exists():
                    time.sleep(0.01)
            fsync(file)

        os.fsync = held

    def wait_until_held(self) -> 'Process':
        while not self._held.exists():
            assert time.monotonic() < self.start + 60 and os.waitpid(self.pid, os.WNOHANG) == (0, 0), self.stderr
            time.sleep(0.01)
        return self

    def go(self) -> int:
        self._go.touch()
        return self.wait()

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)

    def wait(self) -> int:
        """The exit status."""
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() > self.start + 40:
                self.kill()
                pytest.fail(f'it hangs: {self.stderr}')
            time.sleep(0.01)

    @property
    def stderr(self) -> str:
        """What it printed there, without warnings of libraries."""
        file = self.log.with_suffix('.err')
        lines = file.read_text().splitlines(keepends=True) if file.exists() else []
        return ''.join(line for line in lines if 'Warning' not in line and 'warn' not in line)


def content(folder: Path) -> dict[str, bytes]:
    """All files but locks and logs; what is left unfinished beside the outputs too."""
    files = (path for path in folder.rglob('*') if path.is_file() and 'work' not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.suffix != '.lock'}


@pytest.mark.parametrize('earlier', [False, True])
def test_full_disk(writer, tmp_path, earlier):
    """One line, status 1, and an earlier result is what it was."""
    if earlier:
        assert Process(writer.main, tmp_path / 'first').wait() == 0
        writer.before()
    elif writer.out.name.startswith('cityscapes_panoptic'):
        pytest.skip('its label maps are written first, file by file')
    before = content(tmp_path / 'x')
    process = Process(writer.main, tmp_path / 'second', limit=writer.limit)
    assert process.wait() == 1
    (line,) = process.stderr.splitlines()
    place = tempfile.gettempdir() if writer.scratch else writer.out
    assert line.startswith(f'error: {place} cannot be written (File too large)')
    assert ('is what it was' in line) == (earlier or writer.scratch)
    assert content(tmp_path / 'x') == before
    if writer.out.suffix == '.pkl':
        assert 'panoptic/PQ: ' in (tmp_path / 'second').read_text(), 'scores are lost'


def test_kill_and_two_at_once(writer, tmp_path):
    """Killed, a process leaves the old result, and the next one works; while that is at it, another one is refused."""
    assert Process(writer.main, tmp_path / 'once').wait() == 0
    writer.before()
    before = content(tmp_path / 'x')
    Process(writer.main, tmp_path / 'killed', hold=writer.out.name).wait_until_held().kill()
    assert {name: data for name, data in content(tmp_path / 'x').items() if '.part' not in name} == before

    first = Process(writer.main, tmp_path / 'next', hold=writer.out.name).wait_until_held()
    second = Process(writer.main, tmp_path / 'second')
    assert second.wait() == 1
    (line,) = second.stderr.splitlines()
    assert line.startswith('error: ') and 'another process writes to' in line and str(writer.out) in line
    assert first.go() == 0, first.stderr
    after = content(tmp_path / 'x')
    assert not [name for name in after if '.part' in name or '.old' in name]
    assert before.keys() <= after.keys() and writer.out.exists()


@pytest.mark.parametrize('make', FOLDERS)
def test_somebody_elses_folder_is_refused(make, tmp_path, tiny_models, untrained):
    writer = make(tmp_path / 'x', tiny_models=tiny_models, untrained=untrained)
    writer.out.mkdir(parents=True)
    (writer.out / 'mine.png').write_text('mine')
    process = Process(writer.main, tmp_path / 'log')
    assert process.wait() == 1
    (line,) = process.stderr.splitlines()
    assert line.startswith('error: ') and str(writer.out) in line and 'move the folder away' in line
    assert (writer.out / 'mine.png').read_text() == 'mine'


def test_full_disk_under_a_converted_checkpoint(tmp_path):
    released = tmp_path / 'released.pth'
    released.touch()
    main = lambda: save_converted(str(tmp_path / 'a.pth'), str(released), {'a': torch.rand(10_000)}, {})  # noqa: E731
    process = Process(main, tmp_path / 'log', limit=2000)
    assert process.wait() == 1
    assert 'a.pth cannot be written' in process.stderr and process.stderr.count('\n') == 1
    assert not list(tmp_path.glob('*a.pth*.part')) and not (tmp_path / 'a.pth').exists()
    assert Process(main, tmp_path / 'log2').wait() == 0
    shutil.copy(tmp_path / 'a.pth', tmp_path / 'copy.pth')
    assert Process(main, tmp_path / 'log3').wait() == 1  # it is there already
    assert (tmp_path / 'a.pth').read_bytes() == (tmp_path / 'copy.pth').read_bytes()
