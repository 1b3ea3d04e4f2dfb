"""What the demo shows of the tools that it runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.repo import load_tool, run_main
from mmengine.config import Config


@pytest.fixture(scope='module')
def demo(repo_root):
    return load_tool('misc/demo')


def stream(demo, tmp_path, code):
    return demo.stream([sys.executable, '-c', code], tmp_path / 'log')


def test_progress_and_tables_are_shown_and_all_is_logged(demo, tmp_path, capsys):
    code = "print('config [/bold] = 1'); print('x - INFO - Epoch(train) [1][2/3] loss: 1'); print('│ All │ 50.0 │')"
    output = stream(demo, tmp_path, code)
    shown = capsys.readouterr().out
    assert 'Epoch(train) [1][2/3]' in shown and '│ All │ 50.0 │' in shown
    assert 'config' not in shown
    assert (tmp_path / 'log').read_text() == output
    assert 'config [/bold] = 1' in output


def test_failing_step_ends_the_demo_with_its_last_lines(demo, tmp_path, capsys):
    with pytest.raises(SystemExit, match='its whole output is in'):
        stream(demo, tmp_path, "import sys; print('error: data/x [/y] is missing'); sys.exit(1)")
    assert 'error: data/x [/y] is missing' in capsys.readouterr().out


def test_steps_name_existing_files(demo, repo_root, monkeypatch, tmp_path):
    for name in (demo.CONFIG, demo.LONGER):
        assert (repo_root / name).is_file()
    monkeypatch.chdir(repo_root)
    assert demo.here(demo.CONFIG) == demo.CONFIG
    monkeypatch.chdir(tmp_path)
    assert demo.here(demo.CONFIG) == str(repo_root / demo.CONFIG)


def test_the_config_is_of_the_dataset_that_the_demo_makes(demo, repo_root):
    config = Config.fromfile(repo_root / demo.CONFIG)
    (resize,) = (config[f'{part}_dataloader'].dataset.pipeline.resize for part in ('train',))
    assert tuple(resize.scale) == demo.SIZE[::-1]
    assert config.train_dataloader.dataset.data_root == 'data/demo/'
    assert config.train_cfg.max_epochs == demo.EPOCHS > config.train_cfg.val_interval, 'a picture before the end'
    assert 'indices' not in config.test_dataloader.dataset


def test_time_is_told_after_the_first_steps_and_the_first_picture_is_named(demo, tmp_path, capsys):
    clock = iter([100.0, 110.0])
    training = demo.Training(tmp_path, epochs=3, now=lambda: next(clock))
    for step in (10, 20, 30):
        training.see(f'x - INFO - Epoch(train) [1][{step:3}/150]  lr: 1  loss: 1\n')
    told = capsys.readouterr().out
    left = 430 * 1.0
    assert told.strip() == (
        f'> 1.00 s a step on this machine: training has about {left / 60:.1f} minutes to go, the whole demo about '
        f'{left * (1 + demo.TEST_SHARE) / 60:.1f} minutes'
    )
    training.see('Validation after epoch 1: PQ 10.00\n')
    assert capsys.readouterr().out == '', 'there is no picture yet'
    picture = tmp_path / '20260101_000000/vis_data/vis_image/val_000000_0.png'
    picture.parent.mkdir(parents=True)
    picture.touch()
    for epoch in (2, 3):
        training.see(f'Validation after epoch {epoch}: PQ 10.00\n')
    assert capsys.readouterr().out.split() == [
        *['>', 'first', 'picture', '(image,', 'ground', 'truth,', 'prediction):'], str(picture),
    ]  # fmt: skip


def test_short_times(demo):
    assert demo.minutes(45.4) == 'about 45 s' and demo.minutes(150) == 'about 2.5 minutes'


def test_help_starts_nothing(repo_root, demo, monkeypatch, capsys):
    for name in ('misc/demo', 'misc/install'):
        monkeypatch.syspath_prepend(str(repo_root / 'tools/misc'))
        tool = load_tool(name)
        monkeypatch.setattr(subprocess, 'Popen', None)
        with pytest.raises(SystemExit) as ending:
            run_main(tool, monkeypatch, '--help')
        assert ending.value.code == 0
        assert capsys.readouterr().out.startswith('usage: ')


FAKE_TOOL = """
import sys
print('x - INFO - Epoch(train) [1][10/150]  lr: 1')
print('│ PQ │ 45.10 │ 30.00 │ 60.00 │')
if 'train.py' in sys.argv[1]:
    open('work_dirs/demo/last.pth', 'w').close()
"""


def test_the_whole_tour_with_tools_that_do_nothing(demo, tmp_path, monkeypatch, capsys):
    """One table, and three commands at the end that name what is there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'fake.py').write_text(FAKE_TOOL)
    commands = []

    class Popen(subprocess.Popen):
        def __init__(self, command, **kwargs):
            commands.append(command)
            super().__init__([sys.executable, str(tmp_path / 'fake.py'), *command[1:]], **kwargs)

    monkeypatch.setattr(subprocess, 'Popen', Popen)
    run_main(demo, monkeypatch, '--seed', '3')
    shown = capsys.readouterr().out
    assert [Path(command[1]).name for command in commands] == ['shapes.py', 'train.py', 'test.py']
    assert 'randomness.seed=3' in commands[1]
    assert 'PQ 45.10 (things 30.00, stuff 60.00)' in shown
    following = shown[shown.index('Next: ') :].splitlines()[1:]
    assert [re.search(r'(\w+)\.py', line)[1] for line in following] == ['test', 'predict', 'shapes']
    with monkeypatch.context() as patch:  # they can be called as they stand there
        for line in following[:2]:
            patch.setattr(sys, 'argv', line.split()[1:])
            load_tool(re.search(r'(\w+)\.py', line)[1]).parse_args()
