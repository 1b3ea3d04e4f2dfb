"""docs/add_a_head.md is walked by its own text: the files that it has, then the commands."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from fixtures.tiny_run import TinyRun, tool_env
from helpers.repo import ROOT

from mmpanoptic.analysis.suites import read_suite

PAGE = (ROOT / 'docs/add_a_head.md').read_text(encoding='utf-8')
FILES = ('global_context_head.py', 'global_context.py', 'test_global_context_head.py')
# What makes minutes seconds: the data of a tiny run, and one epoch on it.
SMALL = """
train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False)
val_dataloader = dict(num_workers=0, persistent_workers=False)
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=1, val_interval=1)
"""


def blocks(language: str) -> list[str]:
    fenced = re.findall(r'^```(\w*)\n(.*?)^```$', PAGE, re.DOTALL | re.MULTILINE)
    return [text for of, text in fenced if of == language]


@pytest.fixture(scope='module')
def folder(tiny_run: TinyRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the page's reader, with its files; the dataset is a small one."""
    folder = tmp_path_factory.mktemp('own_head')
    for name, text in zip(FILES, blocks('python'), strict=True):
        assert f'`{name}`' in PAGE
        (folder / name).write_text(text)
    (folder / 'data').mkdir()
    (folder / 'data' / 'shapes').symlink_to(tiny_run.data)
    return folder


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, env=tool_env(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def test_the_config_has_at_most_five_lines(folder):
    assert len((folder / 'global_context.py').read_text().splitlines()) <= 5


@pytest.mark.slow
def test_the_test_passes_and_fails_without_the_head(folder):
    command = [sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', 'test_global_context_head.py']
    assert '1 passed' in run(command, folder)
    head = folder / 'global_context_head.py'
    text = head.read_text()
    head.write_text(text.replace('level + self.context(level.mean((2, 3), keepdim=True))', 'level'))
    broken = subprocess.run(command, cwd=folder, env=tool_env(), capture_output=True, text=True, timeout=300)
    head.write_text(text)
    assert broken.returncode == 1 and '1 failed' in broken.stdout


@pytest.mark.slow
def test_it_trains_and_is_scored_by_the_commands(folder):
    config = folder / 'global_context.py'
    config.write_text(config.read_text() + SMALL)
    (commands,) = [block for block in blocks('') if 'mmpanoptic train' in block]
    test, shapes, train, score = (line.split() for line in commands.splitlines())
    assert test[0] == 'pytest' and shapes[:2] == ['mmpanoptic', 'shapes']
    # As the command of a user, which has only its own folder on the path, not the current one.
    program = [sys.executable, '-c', 'import sys; sys.path.remove(""); from mmpanoptic.__main__ import main; main()']
    run([*program, *train[1:]], folder)
    weights = torch.load(folder / 'work_dirs/global_context/last.pth', weights_only=False)['state_dict']
    assert 'semantic_head.context.weight' in weights
    assert re.search(r'\bPQ\b', run([*program, *score[1:]], folder))


def test_the_suite_can_be_read(folder, monkeypatch):
    (text,) = blocks('yaml')
    (folder / 'suite.yml').write_text(text)
    monkeypatch.chdir(folder)
    assert yaml.safe_load(text)['title'] == 'Global context'
    assert [run.versus for run in read_suite('suite.yml').runs] == [None, 'Panoptic FPN']
