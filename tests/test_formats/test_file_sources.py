"""Files in folders and zips."""

import json
import multiprocessing
import pickle
import zipfile

import pytest

from mmpanoptic.formats.file_sources import FileSource, default_folder, read_json_of
from mmpanoptic.formats.images import set_max_pixels
from mmpanoptic.utils import DatasetError, UserError


@pytest.fixture
def archive(tmp_path):
    """A zip as it is handed in: a JSON, a folder of files, and what macOS adds."""
    path = tmp_path / 'results.zip'
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as file:
        file.writestr('panoptic_results.json', json.dumps({'annotations': []}))
        file.writestr('panoptic_results/1.png', b'one')
        file.writestr('panoptic_results/2.png', b'two')
        file.writestr('__MACOSX/panoptic_results/._1.png', b'x')
        file.writestr('__MACOSX/1.png', b'y')
    return path


def test_reading(archive, tmp_path):
    (tmp_path / '1.png').write_bytes(b'folder')
    assert FileSource(archive).read('1.png', 'a.json') == b'one'
    assert FileSource(tmp_path).read('1.png', 'a.json') == b'folder'
    assert read_json_of(archive) == {'annotations': []}
    assert default_folder(archive) == str(archive)
    assert default_folder('a/b.json') == 'a/b'


def test_processes(archive):
    source = FileSource(archive)
    assert source.read('2.png', 'a') == b'two'
    assert pickle.loads(pickle.dumps(source)).read('1.png', 'a') == b'one'
    with multiprocessing.get_context('fork').Pool(2) as pool:  # each opens it for itself
        results = pool.starmap(source.read, [(f'{1 + k % 2}.png', 'a') for k in range(40)])
    assert results == [b'one', b'two'] * 20


def test_names_that_repeat(tmp_path):
    path = tmp_path / 'a.zip'
    with zipfile.ZipFile(path, 'w') as file:
        file.writestr('a/1.png', b'one')
        file.writestr('b/1.png', b'other')
        file.writestr('x.json', '{}')
        file.writestr('y.json', '{}')
    assert FileSource(path).read('b/1.png', 'a') == b'other'
    with pytest.raises(UserError, match=r'a\.zip holds no file, or several, of the name 1\.png: g\.json names it'):
        FileSource(path).read('1.png', 'g.json')
    with pytest.raises(UserError, match=r'holds 2 JSON files \(x\.json, y\.json\)'):
        read_json_of(path)


def test_what_cannot_be_read(archive, tmp_path):
    with pytest.raises(DatasetError, match=r'holds no file, or several, of the name 3\.png: g\.json names it'):
        FileSource(archive).read('3.png', 'g.json', DatasetError)
    with pytest.raises(UserError, match=r"nowhere/1\.png' cannot be read \(No such file"):
        FileSource(tmp_path / 'nowhere').read('1.png', 'g.json')
    with pytest.raises(UserError, match=r'nowhere\.zip cannot be read as a zip file \(No such file'):
        read_json_of(tmp_path / 'nowhere.zip')
    (tmp_path / 'text.zip').write_text('no archive')
    with pytest.raises(UserError, match=r'text\.zip cannot be read as a zip file'):
        read_json_of(tmp_path / 'text.zip')
    with pytest.raises(UserError, match=r"text\.zip/1\.png' cannot be read \(File is not a zip file\)"):
        FileSource(tmp_path / 'text.zip').read('1.png', 'g.json')
    data = bytearray(archive.read_bytes())
    place = data.index(b'one') if b'one' in data else data.index(b'1.png') + 5
    data[place] ^= 255
    archive.write_bytes(data)
    with pytest.raises(UserError, match=r"1\.png' cannot be read"):
        FileSource(archive).read('1.png', 'g.json')


def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.delenv('MMPANOPTIC_MAX_PIXELS', raising=False)
    monkeypatch.setenv('MMPANOPTIC_MAX_PIXELS', '100')
    set_max_pixels(100)
    path = tmp_path / 'bomb.zip'
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as file:
        file.writestr('1.png', bytes(2**20))
    with pytest.raises(UserError, match=r'1\.png has 1048576 bytes, and 65936 are allowed'):
        FileSource(path).read('1.png', 'g.json')
