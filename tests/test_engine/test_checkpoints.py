"""Checkpoints from anywhere: files, addresses, names; what holds code is refused, wherever it comes from."""

import pickle
import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torch
from mmengine.runner.checkpoint import CheckpointLoader

from mmpanoptic.engine import checkpoint_files
from mmpanoptic.engine.checkpoint_files import latest_checkpoint, read_checkpoint, use_strict_loading
from mmpanoptic.utils import UserError


class Harmful:
    """Pickles to a call that prints."""

    def __reduce__(self) -> tuple:
        return print, ('run by loading',)


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args) -> None:
        pass


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Checkpoints: ``weights.pth``, tensors alone, and ``objects.pth``, which runs code when it is loaded."""
    folder = tmp_path / 'files'
    folder.mkdir()
    torch.save(dict(state_dict=dict(weight=torch.arange(3.0))), folder / 'weights.pth')
    torch.save(dict(model={}, optimizer=Harmful()), folder / 'objects.pth', _use_new_zipfile_serialization=False)
    return folder


@pytest.fixture
def address(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where the folder is served by http; what is fetched is kept below ``tmp_path / 'home'``."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'home'))
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    monkeypatch.setattr(torch.hub, '_hub_dir', None)
    server = ThreadingHTTPServer(('127.0.0.1', 0), partial(QuietHandler, directory=files))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}'
    server.shutdown()
    server.server_close()


@pytest.fixture
def cached(tmp_path: Path) -> Path:
    return tmp_path / 'home/hub/checkpoints'


SOURCES = ('file', 'http', 'name')


@pytest.fixture
def source_of(files: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], str]:
    """How a checkpoint is called that lies in a file, at an address, or has a name that mmengine knows."""

    def source_of(kind: str, name: str) -> str:
        monkeypatch.setattr(checkpoint_files, 'get_external_models', lambda: {name: f'{address}/{name}'})
        return dict(file=str(files / name), http=f'{address}/{name}', name=f'open-mmlab://{name}')[kind]

    return source_of


@pytest.mark.parametrize('kind', SOURCES)
def test_weights_are_read_from_anywhere(kind, source_of):
    assert read_checkpoint(source_of(kind, 'weights.pth'))['state_dict']['weight'].tolist() == [0, 1, 2]


@pytest.mark.parametrize('kind', SOURCES)
def test_objects_are_loaded_only_if_trusted(kind, source_of, capsys):
    source = source_of(kind, 'objects.pth')
    with pytest.raises(UserError) as refused:
        read_checkpoint(source)
    message = str(refused.value)
    assert message.startswith(source)
    assert ' holds more than weights and plain values (' in message
    assert message.endswith('if you trust the file, load it with trust_checkpoint=True')
    assert refused.value.argument == 'trust_checkpoint'
    assert 'run by loading' not in capsys.readouterr().out
    assert read_checkpoint(source, trust=True)['model'] == {}
    assert 'run by loading' in capsys.readouterr().out


@pytest.mark.parametrize('kind', SOURCES)
def test_mmengine_reads_everything_so(kind, source_of, monkeypatch, capsys):
    monkeypatch.setattr(CheckpointLoader, '_schemes', dict(CheckpointLoader._schemes))
    use_strict_loading()
    weights = CheckpointLoader.load_checkpoint(source_of(kind, 'weights.pth'), 'cpu', logger='silent')
    assert weights['state_dict']['weight'].tolist() == [0, 1, 2]
    source = source_of(kind, 'objects.pth')
    with pytest.raises(UserError, match='holds more than weights and plain values'):
        CheckpointLoader.load_checkpoint(source, 'cpu', logger='silent')
    assert 'run by loading' not in capsys.readouterr().out
    use_strict_loading(trust=True)
    assert CheckpointLoader.load_checkpoint(source, 'cpu', logger='silent')['model'] == {}


def test_what_is_fetched_is_kept(address, files, cached):
    read_checkpoint(f'{address}/weights.pth')
    assert [path.name for path in cached.iterdir()] == ['weights.pth']
    (files / 'weights.pth').unlink()
    assert 'state_dict' in read_checkpoint(f'{address}/weights.pth')


def test_what_cannot_be_fetched_is_one_line(address, files, cached):
    with pytest.raises(UserError) as missing:
        read_checkpoint(f'{address}/none.pth')
    message = str(missing.value)
    assert message.startswith(f'{address}/none.pth could not be fetched (HTTPError: HTTP Error 404: File not found): ')
    assert ': fetch it by other means and ' in message and message.endswith('give the file')
    assert len(message.splitlines()) == 1
    shutil.copy(files / 'weights.pth', files / 'weights-0123abcd.pth')  # in a name, the beginning of the sum is checked
    with pytest.raises(
        UserError, match=r'weights-0123abcd\.pth could not be fetched \(RuntimeError: invalid hash value '
    ):
        read_checkpoint(f'{address}/weights-0123abcd.pth')
    assert not list(cached.iterdir()), 'nothing half-fetched is left'


def test_names_that_are_not_known():
    with pytest.raises(UserError, match=r'^open-mmlab://resnet7: mmengine knows no checkpoint of that name: give a '):
        read_checkpoint('open-mmlab://resnet7')


def test_missing_and_damaged_files_are_refused(tmp_path):
    with pytest.raises(UserError, match=r'^checkpoint .*none\.pth does not exist$'):
        read_checkpoint(tmp_path / 'none.pth')
    path = tmp_path / 'damaged.pth'
    path.write_bytes(pickle.dumps(dict(model={}))[:-3])
    for trust in (False, True):
        with pytest.raises(UserError, match=r'damaged\.pth is not a checkpoint that torch can read'):
            read_checkpoint(path, trust)


def write_checkpoint(path: Path) -> None:
    torch.save({'state_dict': {}}, path)
    time.sleep(0.01)  # files are told apart by their times


def test_latest_checkpoint(tmp_path: Path):
    assert latest_checkpoint(str(tmp_path / 'nowhere')) is None
    work_dir = tmp_path / 'work'
    work_dir.mkdir()
    assert latest_checkpoint(str(work_dir)) is None
    for name in ('epoch_9.pth', 'epoch_10.pth', 'best_panoptic_PQ_epoch_10.pth', 'other.pth'):
        write_checkpoint(work_dir / name)
    assert latest_checkpoint(str(work_dir)) == str(work_dir / 'epoch_10.pth'), 'best_* have no optimizer state'
    (work_dir / 'last_checkpoint').write_text(str(work_dir / 'epoch_9.pth'))
    assert latest_checkpoint(str(work_dir)) == str(work_dir / 'epoch_9.pth')
    shutil.copytree(work_dir, tmp_path / 'copy')
    assert latest_checkpoint(str(tmp_path / 'copy')) == str(tmp_path / 'copy/epoch_9.pth'), 'not that of the original'
    for name in ('epoch_9.pth', 'epoch_10.pth'):
        (work_dir / name).write_bytes((work_dir / name).read_bytes()[:-30])
    assert latest_checkpoint(str(work_dir)) is None
    (work_dir / 'last_checkpoint').write_text(str(tmp_path / 'elsewhere/epoch_3.pth'))
    (tmp_path / 'elsewhere').mkdir()
    write_checkpoint(tmp_path / 'elsewhere/epoch_3.pth')
    assert latest_checkpoint(str(work_dir)) == str(tmp_path / 'elsewhere/epoch_3.pth')
