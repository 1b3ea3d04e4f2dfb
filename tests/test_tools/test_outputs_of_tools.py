"""What tools do to an earlier result when the disk is full, when they are killed, and when two write at once."""

import shutil
import tempfile

import pytest
import torch
from fixtures.writers import FOLDERS, WRITERS, Writer
from helpers.forked import Process, content
from helpers.repo import one_error_of

from mmpanoptic.engine.released_checkpoints import save_converted

pytestmark = pytest.mark.slow


@pytest.fixture(params=WRITERS, ids=lambda function: function.__name__)
def writer(request, tmp_path, tiny_models, untrained) -> Writer:
    return request.param(tmp_path / 'x', tiny_models=tiny_models, untrained=untrained)


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
    line = one_error_of(process.stderr)
    place = tempfile.gettempdir() if writer.scratch else writer.out
    assert line.startswith(f'{place} cannot be written (File too large)')
    assert ('is what it was' in line) == (earlier or writer.scratch)
    assert content(tmp_path / 'x', writer.kept) == before
    if writer.scores:
        assert '│ PQ ' in (tmp_path / 'second').read_text(), 'scores are lost'


def test_kill_and_two_at_once(writer, tmp_path):
    """Killed, a process leaves the old result, and the next one works; while that is at it, another one is refused."""
    assert Process(writer.main, tmp_path / 'once').wait() == 0
    writer.before()
    before = content(tmp_path / 'x')
    Process(writer.main, tmp_path / 'killed', hold=writer.out.name).wait_until_held().kill()
    left = content(tmp_path / 'x', writer.kept)
    assert {name: data for name, data in left.items() if '.part' not in name} == before

    first = Process(writer.main, tmp_path / 'next', hold=writer.out.name).wait_until_held()
    second = Process(writer.main, tmp_path / 'second')
    assert second.wait() == 1
    line = one_error_of(second.stderr)
    assert 'another process writes to' in line and str(writer.out) in line
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
    line = one_error_of(process.stderr)
    assert str(writer.out) in line and 'move the folder away' in line
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
