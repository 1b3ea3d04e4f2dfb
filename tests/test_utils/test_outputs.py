"""Files are whole or not there; one writer at a time."""

import os
import resource
import signal
import subprocess
import sys

import pytest

from mmpanoptic.utils import UserError, sole_writer, whole_file, write_whole


@pytest.fixture
def small_files(monkeypatch):
    """No file of this process may grow beyond 1000 bytes, as if the disk were full."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, old[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, old)
    signal.signal(signal.SIGXFSZ, handler)


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
def test_full_disk(tmp_path, small_files, before):
    path = tmp_path / 'a.txt'
    if before:
        path.write_text(before)
    words = r'a\.txt cannot be written \(File too large\)' + ('; .*is what it was' if before else '$')
    with pytest.raises(UserError, match=words):
        write_whole(path, 'x' * 2000)
    assert os.listdir(tmp_path) == (['a.txt'] if before else [])
    assert not before or path.read_text() == before


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
