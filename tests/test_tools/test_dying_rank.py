"""A rank of a training that dies: the job ends, says why, and leaves no process behind."""

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from fixtures.tiny_run import tool_env, write_config
from helpers.jobs import processes_of
from helpers.repo import ROOT
from helpers.tcp import free_port

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith('linux'), reason='looks for processes in /proc'),
]
PATIENCE = 60  # seconds from a rank's death to the end of everything

# Ends rank 1 in its second iteration.
DYING = """
import os
import signal

from mmengine.hooks import Hook

from mmpanoptic.registry import HOOKS


@HOOKS.register_module()
class DyingHook(Hook):
    def __init__(self, way):
        self.way = way

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if (runner.rank, runner.iter) != (1, 1):
            return
        with open('died', 'w') as file:
            file.write(str(os.getpid()))
        if self.way == 'killed':
            os.kill(os.getpid(), signal.SIGKILL)
        raise RuntimeError('rank 1 fails on purpose')
"""
# Batches of some 100 kB, and many of them: data workers that are ahead wait until somebody takes theirs.
EXTRA = """
custom_imports = dict(imports=['dying'])
custom_hooks = [dict(type='DyingHook', way='{way}')]
train_dataloader.update(
    batch_size=4,
    num_workers=2,
    persistent_workers=True,
    dataset=dict(
        _delete_=True,
        type='RepeatDataset',
        times=40,
        dataset=dict(_base_.train_dataloader.dataset, data_root='{data}/'),
    ),
)
"""


def wait_for_the_end(job: str, died: Path) -> list[int]:
    """Processes that are left a minute after a rank's death, or at once if there are none."""
    started = time.time()
    while processes := processes_of(job):
        since = died.stat().st_mtime if died.exists() else started + 2 * PATIENCE
        if time.time() > since + PATIENCE:
            break
        time.sleep(0.2)
    return processes


@pytest.mark.parametrize('way', ['killed', 'raised'])
def test_a_rank_that_dies_ends_the_job(way, tiny_shapes, tmp_path):
    (tmp_path / 'dying.py').write_text(DYING)
    config = write_config(tmp_path / 'config.py', tiny_shapes, extra=EXTRA.format(way=way, data=tiny_shapes))
    job = uuid.uuid4().hex
    env = tool_env(PYTHONPATH=str(tmp_path), PORT=str(free_port()), JOB=job)
    command = ['bash', str(ROOT / 'tools/dist_train.sh'), str(config), '2', '--work-dir', 'run']
    with (tmp_path / 'output.txt').open('w') as output:  # a pipe would be waited for as long as an orphan holds it
        launcher = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=output, stderr=output)
    left = wait_for_the_end(job, tmp_path / 'died')
    for process in left:
        os.kill(process, signal.SIGKILL)
    status, text = launcher.wait(), (tmp_path / 'output.txt').read_text()
    assert (tmp_path / 'died').exists(), text
    assert status not in (0, -signal.SIGKILL), text
    pid = (tmp_path / 'died').read_text()
    error = f'Signal 9 (SIGKILL) received by PID {pid}' if way == 'killed' else 'RuntimeError: rank 1 fails on purpose'
    assert error in text
    assert left == []
