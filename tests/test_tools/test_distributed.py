"""Two processes on CPU, over gloo: the shell scripts, DDP, and the same scores as one process."""

import json
from pathlib import Path

import pytest
import torch
from fixtures.tiny_run import EPOCHS, ITERS_PER_EPOCH, NUM_IMAGES, TinyRun, run_tool, tool_env, write_config
from helpers.tcp import free_port

pytestmark = pytest.mark.slow


def environment(**extra: str) -> dict[str, str]:
    return tool_env(PORT=str(free_port()), **extra)


# Notes each file of scores that mmengine's hook writes, in whichever process.
WATCH = """
from mmengine.hooks import logger_hook

write = logger_hook.dump


def dump(content, path):
    with open('dumps', 'a') as file:
        file.write(f'{path}\\n')
    write(content, path)


logger_hook.dump = dump
"""


def scores(work_dir: Path) -> dict[str, float]:
    """The scores that a test run left behind, at full precision."""
    (path,) = work_dir.glob('*/*.json')
    return {key: value for key, value in json.loads(path.read_text()).items() if '/' in key}


def test_same_bits_on_two_processes(tiny_run: TinyRun, tmp_path: Path):
    assert NUM_IMAGES['val'] % 2 == 1, 'one rank has to pad'
    options = ['--eval', 'PQ', 'bbox', 'mIoU', '--out', 'all.pkl']
    files = f'test_evaluator.outfile_prefix={tmp_path}/'
    one = run_tool(
        'test.py', tiny_run.config, tiny_run.checkpoint, *options, '--work-dir', 'one',
        '--cfg-options', files + 'one_files', cwd=tmp_path,
    )  # fmt: skip
    (tmp_path / 'watch.py').write_text(WATCH)
    config = write_config(tmp_path / 'watched.py', tiny_run.data, extra="custom_imports = dict(imports=['watch'])\n")
    two = run_tool(
        'dist_test.sh', config, tiny_run.checkpoint, '2', *options, '--work-dir', 'two', '--cfg-options',
        files + 'two_files', '--show-dir', 'pictures', '--report', 'report', cwd=tmp_path,
        env=environment(PYTHONPATH=str(tmp_path)),
    )  # fmt: skip
    assert one.returncode == 0, one.stderr
    assert two.returncode == 0, two.stderr
    found = scores(tmp_path / 'one')
    assert found['panoptic/PQ'] > 0
    assert scores(tmp_path / 'two') == found
    assert two.stdout.count('│ PQ ') == 1, 'one rank reports'
    assert len((tmp_path / 'dumps').read_text().splitlines()) == 1, 'one rank writes the scores'
    assert len(list((tmp_path / 'pictures').glob('*.png'))) == NUM_IMAGES['val']
    written = [json.loads((tmp_path / f'{name}_files.panoptic.json').read_text()) for name in ('one', 'two')]
    assert [content.pop('info') for content in written] == [
        {'panoptic_dir': f'{name}_files.panoptic'} for name in ('one', 'two')
    ]
    assert written[0] == written[1]
    assert two.stdout.count('Report written to') == 1
    reported = json.loads((tmp_path / 'report/panoptic.json').read_text())
    assert reported['annotations'] == written[0]['annotations']
    page = (tmp_path / 'report/report.html').read_text(encoding='utf-8')
    assert f'"pq":{json.dumps(found["panoptic/PQ"])}' in page


def test_training_on_two_processes(tiny_run: TinyRun, tmp_path: Path):
    """Two processes take half the iterations."""
    done = run_tool('dist_train.sh', tiny_run.config, '2', '--work-dir', 'run', cwd=tmp_path, env=environment())
    assert done.returncode == 0, done.stdout + done.stderr
    state = torch.load(tmp_path / f'run/epoch_{EPOCHS}.pth', weights_only=False)
    assert state['meta']['iter'] == EPOCHS * ITERS_PER_EPOCH // 2
    assert not any(name.startswith('module.') for name in state['state_dict'])
    assert done.stdout.count('Epoch(val)') == (NUM_IMAGES['val'] + 1) // 2, 'every batch of one rank'
    assert done.stdout.count('Validation after epoch') == 1
    assert 'Warning' not in done.stderr


def test_errors_on_two_processes(tiny_run: TinyRun, tmp_path: Path):
    (tmp_path / 'no.pth').write_text('nothing')
    done = run_tool('dist_test.sh', tiny_run.config, 'no.pth', '2', '--work-dir', 'w', cwd=tmp_path, env=environment())
    assert done.returncode != 0
    assert 'error: no.pth is not a checkpoint that torch can read' in done.stderr
