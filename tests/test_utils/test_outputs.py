"""Files and folders are whole or not there; one writer at a time."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.disks import files_up_to
from helpers.process_memory import needs_linux

from mmpanoptic.utils import (
    UserError,
    WriteError,
    part_of,
    remove_whole,
    sole_writer,
    whole_file,
    whole_folder,
    write_whole,
)


def test_content_is_there_at_the_end_alone(tmp_path):
    path = tmp_path / 'a.txt'
    write_whole(path, 'old')
    with whole_file(path) as file:
        file.write('näw'.encode())
        file.flush()
        assert path.read_text() == 'old'
    assert path.read_text() == 'näw'
    assert os.listdir(tmp_path) == ['a.txt']


@pytest.mark.parametrize('before', [None, 'old'])
def test_full_disk(tmp_path, before):
    path = tmp_path / 'a.txt'
    if before:
        path.write_text(before)
    words = r'a\.txt cannot be written \(File too large\)' + ('; .*is what it was' if before else '$')
    with files_up_to(1000), pytest.raises(UserError, match=words):
        write_whole(path, 'x' * 2000)
    assert os.listdir(tmp_path) == (['a.txt'] if before else [])
    assert not before or path.read_text() == before


def test_links_and_devices_stay(tmp_path):
    (tmp_path / 'a.txt').write_text('old')
    (tmp_path / 'link').symlink_to('a.txt')
    write_whole(tmp_path / 'link', 'new')
    assert (tmp_path / 'link').is_symlink() and (tmp_path / 'a.txt').read_text() == 'new'
    with pytest.raises(WriteError, match=r'/dev/full cannot be written \(No space left on device\)'):
        write_whole('/dev/full', 'x')
    write_whole('/dev/null', 'x')
    assert Path('/dev/full').is_char_device() and Path('/dev/null').is_char_device()
    with pytest.raises(WriteError, match=r'cannot be written \(Is a directory\)'):
        write_whole(tmp_path, 'x')


def test_an_error_of_the_writer_leaves_the_old_file(tmp_path):
    path = tmp_path / 'a.txt'
    path.write_text('old')
    with pytest.raises(KeyError), whole_file(path) as file:
        file.write(b'new')
        raise KeyError
    assert path.read_text() == 'old'
    assert os.listdir(tmp_path) == ['a.txt']


_HOLD = """
import sys, time
from mmpanoptic.utils import sole_writer
with sole_writer(sys.argv[1], 'out'):
    print('held', flush=True)
    time.sleep(600)
"""


def test_second_writer_is_refused_until_the_first_dies(tmp_path):
    out = tmp_path / 'out'
    holder = subprocess.Popen([sys.executable, '-c', _HOLD, str(out)], stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b'held\n'
    with pytest.raises(UserError, match=r'--out: another process writes to .*out'), sole_writer(out, '--out'):
        pass
    with sole_writer(tmp_path / 'other', '--out'):
        pass
    holder.kill()
    holder.wait()
    with sole_writer(out, '--out'):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write everywhere')
def test_lock_in_a_folder_that_cannot_be_written(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match='cannot be made'), sole_writer(tmp_path / 'out', '--out'):
        pass
    tmp_path.chmod(0o700)


# ---- folders ----


def fill(folder, maker='tools/a.py', names=('x', 'deep/y'), **kwargs):
    with whole_folder(folder, maker, '--out', **kwargs) as staged:
        for name in names:
            (staged / name).parent.mkdir(exist_ok=True)
            (staged / name).write_text(name)


def content(folder):
    """Files by name, without locks and markers."""
    files = (path for path in folder.rglob('*') if path.is_file())
    kept = {str(path.relative_to(folder)): path.read_text() for path in files if path.name != '.mmpanoptic'}
    return {name: text for name, text in kept.items() if not name.endswith('.lock')}


def test_a_folder_is_there_at_the_end_alone(tmp_path):
    out = tmp_path / 'deep' / 'out'
    fill(out)
    with whole_folder(out, 'tools/a.py', '--out') as staged:
        (staged / 'z').write_text('z')
        assert content(out) == {'x': 'x', 'deep/y': 'deep/y'}
    assert content(tmp_path) == {'deep/out/z': 'z'}


def test_an_empty_folder_may_be_used(tmp_path):
    (tmp_path / 'out').mkdir()
    fill(tmp_path / 'out')
    (tmp_path / 'link').symlink_to('out')
    fill(tmp_path / 'link', names=['new'])  # goes to where the link leads
    assert (tmp_path / 'link').is_symlink() and content(tmp_path / 'out') == {'new': 'new'}


def test_the_current_folder_is_not_moved_away(tmp_path, monkeypatch):
    (tmp_path / 'a' / 'b').mkdir(parents=True)
    monkeypatch.chdir(tmp_path / 'a' / 'b')
    for folder in ('.', '..'):
        with pytest.raises(UserError, match='is the current folder or holds it'):
            fill(folder)


def test_what_is_somebody_elses_is_refused(tmp_path):
    out = tmp_path / 'out'
    fill(out)
    with pytest.raises(UserError, match=r'--out: .*out .* say that tools/b\.py made it .* move the folder away'):
        fill(out, maker='tools/b.py')
    (out / 'deep' / 'mine').write_text('mine')
    with pytest.raises(UserError, match=r'out holds deep/mine, which tools/a\.py did not make: move the folder away'):
        fill(out)
    (out / '.mmpanoptic').write_text('[1]')
    with pytest.raises(UserError, match='is not empty'):
        fill(out)
    (out / '.mmpanoptic').unlink()
    with pytest.raises(UserError, match='is not empty'):
        fill(out)
    assert content(tmp_path) == {'out/x': 'x', 'out/deep/y': 'deep/y', 'out/deep/mine': 'mine'}
    (tmp_path / 'file').write_text('mine')
    with pytest.raises(UserError, match='file is no folder'):
        fill(tmp_path / 'file')


def test_an_error_leaves_the_old_folder_and_errors_of_reading_stay(tmp_path):
    out = tmp_path / 'out'
    fill(out)
    for error in (KeyError(), FileNotFoundError(2, 'No such file', 'elsewhere.png'), UserError('wrong')):
        with pytest.raises(type(error)) as raised, whole_folder(out, 'tools/a.py', '--out') as staged:
            (staged / 'z').write_text('z')
            raise error
        assert raised.value is error
    with (
        pytest.raises(WriteError, match=r'out cannot be written \(No space left\); .*out is what it was'),
        whole_folder(out, 'tools/a.py', '--out'),
    ):
        raise OSError(28, 'No space left')
    assert content(tmp_path) == {'out/x': 'x', 'out/deep/y': 'deep/y'}


@pytest.mark.parametrize('before', [False, True])
def test_full_disk_in_a_folder(tmp_path, before):
    out = tmp_path / 'out'
    if before:
        fill(out)
    for write in ((lambda path: path.write_text('x' * 2000)), (lambda path: write_whole(path, 'x' * 2000))):
        words = r'out cannot be written \(File too large\)' + ('; .*out is what it was' if before else '$')
        made = whole_folder(out, 'tools/a.py', '--out')
        with files_up_to(1000), pytest.raises(WriteError, match=words), made as staged:
            write(staged / 'z')
    assert content(tmp_path) == ({'out/x': 'x', 'out/deep/y': 'deep/y'} if before else {})


def write_pair(folder, index, text):
    with whole_folder(folder, 'pairs', 'index', index) as staged:
        (staged / 'x').write_text(text)
        part_of(index).write_text(text)


def die_after(calls, write):
    """Run ``write()`` in a fork that kills itself at its ``calls``-th change of what lies beside the output.

    Returns:
        Whether it got to its end.
    """
    child = os.fork()
    if child == 0:

        def dying(function):
            def call(*args, **kwargs):
                nonlocal calls
                if '.part' in str(args) or '.old' in str(args):
                    if not calls:
                        os.kill(os.getpid(), signal.SIGKILL)
                    calls -= 1
                return function(*args, **kwargs)

            return call

        for name in ('rename', 'replace', 'unlink', 'mkdir', 'open', 'rmdir'):
            setattr(os, name, dying(getattr(os, name)))
        try:
            write()
        finally:
            os._exit(0)
    return os.WIFEXITED(os.waitpid(child, 0)[1])


@pytest.mark.parametrize('kind', ['pair', 'folder'])
def test_killed_at_any_step(tmp_path, kind):
    """Old or new, never a mixture: what is there, or there after the next run has begun and failed."""
    out, index = tmp_path / 'out', tmp_path / 'out.json'

    def state():
        return {name: text for name, text in content(tmp_path).items() if not name.startswith('.')}

    for calls in range(100):
        if kind == 'pair':
            write_pair(out, index, 'old')
            old, new = {'out/x': 'old', 'out.json': 'old'}, {'out/x': 'new', 'out.json': 'new'}
        else:
            fill(out, names=['old'])
            old, new = {'out/old': 'old'}, {'out/new': 'new'}
        ended = die_after(
            calls, (lambda: write_pair(out, index, 'new')) if kind == 'pair' else (lambda: fill(out, names=['new']))
        )
        aside = {name for name in os.listdir(tmp_path) if name.endswith('.old')}
        assert state() in (old, new) or aside
        if kind == 'pair':
            with pytest.raises(KeyError), whole_folder(out, 'pairs', 'index', index):
                raise KeyError
        else:
            with pytest.raises(KeyError), whole_folder(out, 'tools/a.py', '--out'):
                raise KeyError
        assert state() in (old, new)
        assert content(tmp_path) == state(), 'nothing is left beside'
        if ended:
            break
    assert state() == new and calls >= 4


_KILLED = """
import sys, time
from pathlib import Path
from mmpanoptic.utils import tracked_map, whole_folder
def job(path):
    time.sleep(0.05)
    Path(path).write_text('x')
with whole_folder(sys.argv[1], 'tools/a.py', '--out') as staged:
    print('held', flush=True)
    list(tracked_map(job, [staged / str(i) for i in range(400)], 2, ''))
"""


def test_a_folder_that_is_removed_is_gone_at_once(tmp_path, monkeypatch):
    """Stopped in the middle, it leaves what the next writer of the folder removes."""
    folder = tmp_path / 'kept'
    folder.mkdir()
    for name in 'abc':
        (folder / name).touch()

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, 'unlink', stop)
        with pytest.raises(KeyboardInterrupt):
            remove_whole(folder)
    assert not folder.exists() and len(list(tmp_path.iterdir())) == 1
    with sole_writer(folder, 'x'):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ['.kept.lock']
    remove_whole(folder)  # it is not there
    folder.mkdir()
    remove_whole(folder)
    assert [path.name for path in tmp_path.iterdir()] == ['.kept.lock']


def test_workers_end_with_a_process_that_is_killed(tmp_path):
    out = tmp_path / 'out'
    fill(out)
    holder = subprocess.Popen([sys.executable, '-c', _KILLED, str(out)], stdout=subprocess.PIPE, start_new_session=True)
    assert holder.stdout.readline() == b'held\n'
    with pytest.raises(UserError, match='another process writes to'):
        fill(out)
    while not any(tmp_path.glob('.out.*.part/*')):
        time.sleep(0.01)
    holder.kill()
    holder.wait()
    fill(out, names=['z'])
    assert content(tmp_path) == {'out/z': 'z'}
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            os.killpg(holder.pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.05)
    else:
        pytest.fail('workers are left')


@needs_linux
@pytest.mark.parametrize('point', ['/proc', '/dev'])
def test_mount_points_are_refused_before_the_work(point):
    with pytest.raises(UserError, match=f'--out: {point} is a mount point and cannot be replaced: name a folder in it'):
        whole_folder(point, 'a tool', '--out').__enter__()


def test_mount_points_are_read_from_the_list_of_the_kernel(monkeypatch, tmp_path):
    """Also a folder of the same disk, and a name with a space, which is written as its octal number."""
    out = tmp_path / 'my out'
    line = f'36 25 0:32 /a {out} rw - ext4 /dev/root rw'.replace(str(out), str(out).replace(' ', r'\040'))
    monkeypatch.setattr(Path, 'read_bytes', lambda path: line.encode())
    with pytest.raises(UserError, match='my out is a mount point'):
        whole_folder(out, 'a tool', '--out').__enter__()
    with whole_folder(tmp_path / 'other', 'a tool', '--out'):
        pass
