"""A training that is killed goes on from its last checkpoint."""

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
import torch
from fixtures.tiny_run import EPOCHS, ITERS_PER_EPOCH, TinyRun, run_tool, tool_env, write_config
from helpers.jobs import processes_of
from helpers.process_memory import needs_linux
from helpers.repo import ROOT, one_error_of
from helpers.tcp import free_port

from mmpanoptic.utils import sole_writer

PAUSE = """
custom_imports = dict(imports=['pause'])
custom_hooks = [dict(type='PauseHook')]
"""
# Waits in the last epoch, at its second iteration, until it is killed.
PAUSE_HOOK = """
import os
import time

from mmengine.hooks import Hook

from mmpanoptic.registry import HOOKS


@HOOKS.register_module()
class PauseHook(Hook):
    def after_train_iter(self, runner, *args, **kwargs):
        if os.environ.get('PAUSE_AT') == str(runner.iter):
            open(os.path.join(runner.work_dir, 'paused'), 'w').close()
            time.sleep(600)
"""


@pytest.mark.slow
def test_kill_and_resume(tiny_run: TinyRun, tmp_path: Path):
    """kill -9 in the second epoch; the newest checkpoint is truncated on top, as if killed while writing."""
    (tmp_path / 'pause.py').write_text(PAUSE_HOOK)
    config = write_config(tmp_path / 'tiny.py', tiny_run.data, extra=PAUSE)
    env = tool_env(PYTHONPATH=str(tmp_path), PAUSE_AT=str(ITERS_PER_EPOCH + 1))
    command = [sys.executable, str(ROOT / 'tools/train.py'), str(config), '--work-dir', 'work']
    with open(tmp_path / 'output', 'w') as output:
        process = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=output, stderr=output, start_new_session=True)
    deadline = time.monotonic() + 240
    while not (tmp_path / 'work/paused').exists():
        assert process.poll() is None and time.monotonic() < deadline, (tmp_path / 'output').read_text()
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / 'work/epoch_2.pth').exists()
    whole = (tmp_path / 'work/epoch_1.pth').read_bytes()
    (tmp_path / 'work/epoch_2.pth').write_bytes(whole[: len(whole) // 2])
    (tmp_path / 'work/last_checkpoint').write_text(str(tmp_path / 'work/epoch_2.pth'))

    done = run_tool(
        'train.py', config, '--work-dir', 'work', '--resume', cwd=tmp_path, env=tool_env(PYTHONPATH=str(tmp_path))
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f'resumed epoch: 1, iter: {ITERS_PER_EPOCH}' in done.stdout
    assert 'Epoch(train) [1]' not in done.stdout
    state = torch.load(tmp_path / 'work/epoch_2.pth', weights_only=False)
    straight = torch.load(tiny_run.checkpoint, weights_only=False)
    assert (state['meta']['epoch'], state['meta']['iter']) == (EPOCHS, EPOCHS * ITERS_PER_EPOCH)
    assert state['message_hub']['log_scalars']['train/loss'].data[0].size == EPOCHS * ITERS_PER_EPOCH
    for key, value in straight['optimizer']['state'].items():
        assert state['optimizer']['state'][key]['step'] == value['step']
    assert state['param_schedulers'][0]['last_step'] == straight['param_schedulers'][0]['last_step']


def wait_for_line(output: Path, pattern: str, process: subprocess.Popen) -> None:
    """Return when the output of a process holds a line with the pattern."""
    deadline = time.monotonic() + 120
    while not re.search(pattern, output.read_text()):
        assert process.poll() is None and time.monotonic() < deadline, output.read_text()
        time.sleep(0.05)


def left_of(job: str) -> list[int]:
    """Processes of a job that are there ten seconds from now, or none as soon as there is none."""
    deadline = time.monotonic() + 10
    while (left := processes_of(job)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


LONG = ('train_cfg.max_epochs=1000', 'train_cfg.val_interval=1000')
WORKERS = ('train_dataloader.num_workers=2', 'train_dataloader.persistent_workers=True')


@pytest.mark.slow
@needs_linux
@pytest.mark.parametrize(
    ('number', 'to_group', 'status'),
    [
        (signal.SIGTERM, False, 143),
        (signal.SIGTERM, True, 143),
        (signal.SIGINT, True, 130),
        (signal.SIGKILL, False, -9),
    ],
)
def test_signals_leave_a_checkpoint_and_no_process(number, to_group, status, tiny_run: TinyRun, tmp_path: Path):
    job, output = uuid.uuid4().hex, tmp_path / 'output'
    train = [str(tiny_run.config), '--work-dir', 'work', '--cfg-options', *WORKERS]
    with output.open('w') as file:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / 'tools/train.py'), *train, *LONG],
            cwd=tmp_path, env=tool_env(JOB=job), stdout=file, stderr=file, start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a shell's job may ignore it
        )  # fmt: skip
    wait_for_line(output, r'Epoch\(train\) +\[2\]', process)
    assert len(processes_of(job)) == 3
    (os.killpg if to_group else os.kill)(process.pid, number)
    assert process.wait(60) == status
    assert left_of(job) == []
    if number == signal.SIGKILL:
        return
    text = output.read_text()
    assert 'Traceback' not in text
    found = re.search(rf'^stopped by {number.name} after iteration (\d+): go on from (\S+) with --resume$', text, re.M)
    state = torch.load(tmp_path / found[2], weights_only=False)
    assert state['meta']['iter'] == int(found[1]) > ITERS_PER_EPOCH
    short = f'train_cfg.max_epochs={state["meta"]["epoch"] + 1}'
    done = run_tool('train.py', *train, short, '--resume', cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f'iter: {found[1]}' in done.stdout


@pytest.mark.slow
@needs_linux
def test_two_processes_stop_together_and_resume_exactly(tiny_run: TinyRun, tmp_path: Path):
    job, output = uuid.uuid4().hex, tmp_path / 'output'
    config = write_config(tmp_path / 'tiny.py', tiny_run.data, epochs=12)

    def train(*options: str) -> list[str]:
        workers = 'train_dataloader.batch_size=1', *WORKERS, 'train_cfg.val_interval=6'
        return [str(config), '2', *options, '--cfg-options', *workers]

    def env() -> dict[str, str]:
        return tool_env(JOB=job, PORT=str(free_port()))

    with output.open('w') as file:
        process = subprocess.Popen(
            ['bash', str(ROOT / 'tools/dist_train.sh'), *train('--work-dir', 'cut')],
            cwd=tmp_path, env=env(), stdout=file, stderr=file,
        )  # fmt: skip
    wait_for_line(output, r'Epoch\(train\) +\[2\]', process)
    process.terminate()
    assert process.wait(60) != 0
    assert left_of(job) == []
    assert re.search(r'^stopped by SIGTERM after iteration \d+: go on from', output.read_text(), re.M), (
        output.read_text()
    )
    weights = []
    for options in (('--work-dir', 'cut', '--resume'), ('--work-dir', 'straight')):
        done = run_tool('dist_train.sh', *train(*options), cwd=tmp_path, env=env())
        assert done.returncode == 0, done.stdout + done.stderr
        weights.append(torch.load(tmp_path / options[1] / 'epoch_12.pth', weights_only=False)['state_dict'])
    differ = [name for name, value in weights[1].items() if not torch.equal(weights[0][name], value)]
    assert differ == []


@pytest.mark.slow
def test_two_trainings_in_one_work_dir(tiny_run: TinyRun, tmp_path: Path):
    with sole_writer(tmp_path / 'work', 'test'):
        done = run_tool('train.py', tiny_run.config, '--work-dir', 'work', cwd=tmp_path)
    assert done.returncode == 1
    assert 'work_dir: another process writes to' in one_error_of(done.stderr)
