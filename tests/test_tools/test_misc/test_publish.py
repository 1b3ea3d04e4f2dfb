"""Checkpoints as safetensors: what is kept, and that tools read them."""

import hashlib

import pytest
import safetensors.torch
import torch
from fixtures.tiny_run import run_tool
from helpers.repo import load_tool, run_main

from mmpanoptic.engine.checkpoint_files import read_checkpoint, write_safetensors
from mmpanoptic.utils import UserError

TOOL = load_tool('misc/publish')


@pytest.fixture
def checkpoint(tmp_path):
    weight = torch.randn(3, 4)
    content = dict(
        state_dict={'module.a': weight, 'module.b': weight, 'module.n': torch.tensor(3), 'module.t': weight.T},
        meta=dict(epoch=2, cfg='text', dataset_meta=dict(classes=('x', 'y'), palette=[(1, 2, 3), (4, 5, 6)])),
        optimizer=dict(state={0: torch.ones(5)}),
    )
    torch.save(content, tmp_path / 'epoch_2.pth')
    return tmp_path / 'epoch_2.pth'


def test_weights_and_meaning_are_kept_and_nothing_else(checkpoint, tmp_path, monkeypatch, capsys):
    run_main(TOOL, monkeypatch, checkpoint, tmp_path / 'out' / 'mine.safetensors')
    (file,) = (tmp_path / 'out').glob('[!.]*')
    assert capsys.readouterr().out.strip() == str(file)
    assert file.name == f'mine-{hashlib.sha256(file.read_bytes()).hexdigest()[:8]}.safetensors'
    published, original = read_checkpoint(file), read_checkpoint(checkpoint)
    assert published.keys() == {'state_dict', 'meta'}
    assert published['meta'] == dict(epoch=2, dataset_meta=dict(classes=['x', 'y'], palette=[[1, 2, 3], [4, 5, 6]]))
    for name, weight in original['state_dict'].items():
        found = published['state_dict'][name.removeprefix('module.')]
        assert found.dtype == weight.dtype and torch.equal(found, weight)


def test_equal_content_gives_equal_files(tmp_path):
    files = []
    for k in range(20):
        (tmp_path / str(k)).mkdir()
        weights = dict(b=torch.ones(3), a=torch.arange(5))
        files.append(write_safetensors(tmp_path / str(k) / 'a.safetensors', weights, dict(epoch=1)))
    assert len({file.name for file in files}) == 1
    assert safetensors.torch.load_file(files[0])['a'].tolist() == [0, 1, 2, 3, 4]


def test_a_result_that_is_there_stays(checkpoint, tmp_path, monkeypatch):
    run_main(TOOL, monkeypatch, checkpoint, tmp_path / 'mine.safetensors')
    with pytest.raises(UserError, match='is there already'):
        run_main(TOOL, monkeypatch, checkpoint, tmp_path / 'mine.safetensors')
    with pytest.raises(UserError, match=r'does not end in \.safetensors'):
        run_main(TOOL, monkeypatch, checkpoint, tmp_path / 'mine.pth')
    assert len(list(tmp_path.glob('mine*'))) == 1 and not list(tmp_path.glob('.*.part'))


def test_bad_values_are_not_published(checkpoint, tmp_path, monkeypatch):
    torch.save(dict(state_dict=dict(a=torch.tensor(float('nan')))), checkpoint)
    with pytest.raises(UserError, match='a holds a value that is not finite'):
        run_main(TOOL, monkeypatch, checkpoint, tmp_path / 'mine.safetensors')
    run_main(TOOL, monkeypatch, checkpoint, tmp_path / 'mine.safetensors', '--allow-nan')


@pytest.mark.parametrize('damage', ['cut', 'zeros', 'empty', 'other'])
def test_damaged_file_is_one_line(tmp_path, damage):
    file = write_safetensors(tmp_path / 'a.safetensors', dict(a=torch.ones(100)), {})
    data = file.read_bytes()
    file.write_bytes({'cut': data[:-7], 'zeros': bytes(40) + data[40:], 'empty': b'', 'other': b'PK' + data}[damage])
    with pytest.raises(UserError, match='is not a checkpoint that torch can read'):
        read_checkpoint(file)


def test_file_of_another_project_has_no_meta(tmp_path):
    safetensors.torch.save_file(dict(a=torch.ones(2)), tmp_path / 'other.safetensors')
    assert read_checkpoint(tmp_path / 'other.safetensors')['meta'] == {}


@pytest.mark.slow
def test_a_published_model_is_tested(tiny_run, tmp_path):
    """It scores as the checkpoint that it was made from."""
    published = run_tool('misc/publish.py', tiny_run.checkpoint, tmp_path / 'tiny.safetensors', cwd=tmp_path)
    assert published.returncode == 0, published.stderr
    (file,) = tmp_path.glob('*.safetensors')
    scores = []
    for checkpoint in (tiny_run.checkpoint, file):
        done = run_tool('test.py', tiny_run.config, checkpoint, '--eval', 'PQ', cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        scores.append([line for line in done.stdout.splitlines() if line.startswith('\u2502')])
    assert scores[0] == scores[1] and scores[0]
