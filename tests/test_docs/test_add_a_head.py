"""docs/add_a_head.md is walked by its own text: the files that it has, then the commands."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from fixtures.tiny_run import tool_env
from helpers.repo import ROOT

from mmpanoptic.analysis.suites import read_suite

PAGE = (ROOT / 'docs/add_a_head.md').read_text(encoding='utf-8')
FILES = ('global_context_head.py', 'global_context.py', 'test_global_context_head.py')
# What makes minutes seconds: one epoch on few images.
SMALL = """
train_dataloader = dict(
    batch_size=2, num_workers=0, persistent_workers=False, dataset=dict(pipeline=dict(resize=dict(scale=(128, 96))))
)
val_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(pipeline=dict(resize=dict(scale=(128, 96))))
)
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=1, val_interval=1)
"""


def blocks(language: str) -> list[str]:
    fenced = re.findall(r'^```(\w*)\n(.*?)^```$', PAGE, re.DOTALL | re.MULTILINE)
    return [text for of, text in fenced if of == language]


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the page's reader, with the files of the page."""
    folder = tmp_path_factory.mktemp('own_head')
    for name, text in zip(FILES, blocks('python'), strict=True):
        assert f'`{name}`' in PAGE
        (folder / name).write_text(text)
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
    (text,) = [block for block in blocks('') if 'mmpanoptic train' in block]
    lines = [line.split() for line in text.splitlines()]
    assert lines[0] == ['pytest', 'test_global_context_head.py']
    commands = {line[1]: line[1:] for line in lines[1:]}
    # As the command of a user, which has only its own folder on the path, not the current one.
    program = [sys.executable, '-c', 'import sys; sys.path.remove(""); from mmpanoptic.__main__ import main; main()']
    run([*program, *commands['shapes'][:2], '--train', '8', '--val', '5', '--size', '96', '128'], folder)
    run([*program, *commands['train']], folder)
    weights = torch.load(folder / 'work_dirs/global_context/last.pth', weights_only=False)['state_dict']
    assert 'semantic_head.context.weight' in weights
    assert re.search(r'\bPQ\b', run([*program, *commands['test']], folder))


def test_the_suite_can_be_read(folder, monkeypatch):
    (text,) = blocks('yaml')
    (folder / 'suite.yml').write_text(text)
    monkeypatch.chdir(folder)
    assert yaml.safe_load(text)['title'] == 'Global context'
    assert [run.versus for run in read_suite('suite.yml').runs] == [None, 'Panoptic FPN']
