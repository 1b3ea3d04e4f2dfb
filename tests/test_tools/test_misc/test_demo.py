"""What the demo shows of the tools that it runs."""

import sys

import pytest
from helpers.repo import load_tool


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


def test_steps_name_existing_files(demo, repo_root):
    assert (repo_root / demo.CONFIG).is_file()
