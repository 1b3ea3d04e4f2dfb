"""Devices and processes of a run."""

import atexit
import os
import signal
import sys

import torch
from mmengine.config import Config
from mmengine.dist import init_dist, is_distributed
from mmengine.utils.dl_utils import set_multi_processing

from mmpanoptic.utils import UserError


def set_up_devices(config: Config) -> None:
    """Make distributed runs work without a GPU.

    mmengine selects a CUDA device on start and hands its number to DDP; neither exists on a CPU, where gloo takes the
    place of NCCL.

    Raises:
        UserError: If a launcher is asked for that works with GPUs only.
    """
    if config.launcher == 'none' or torch.cuda.is_available():
        return
    if config.launcher != 'pytorch':
        raise UserError(f'launcher {config.launcher} needs GPUs: on CPUs take launcher pytorch')
    config.env_cfg.dist_cfg = dict(backend='gloo')
    config.model_wrapper_cfg = dict(
        type='MMDistributedDataParallel',
        device_ids=None,
        broadcast_buffers=False,
        find_unused_parameters=config.get('find_unused_parameters', False),
    )
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group(backend='gloo')


def join_processes(config: Config) -> None:
    """Let the processes of a run know each other before its runner is built, in the way that the runner does it.

    Raises:
        UserError: As :func:`set_up_devices`.
    """
    set_up_devices(config)
    if config.launcher != 'none' and not is_distributed():
        settings = config.get('env_cfg') or {}
        set_multi_processing(**settings.get('mp_cfg', {}), distributed=True)
        init_dist(config.launcher, **settings.get('dist_cfg', {}))


def set_local_rank(local_rank: int) -> None:
    """Launchers give the rank as an argument or in the environment; mmengine reads the latter."""
    os.environ.setdefault('LOCAL_RANK', str(local_rank))


def is_first_process() -> bool:
    """Whether this is the first of all processes of a run, before they know each other; see :func:`set_local_rank`."""
    return int(os.environ.get('RANK', os.environ.get('SLURM_PROCID', 0))) == 0


class Stopped(SystemExit):
    """A signal has ended the run; the exit status is 128 and the signal's number.

    Args:
        number: The signal.
        words: Where it ended, and what is left of it.
    """

    def __init__(self, number: int, words: str) -> None:
        super().__init__(128 + number)
        self.words = f'stopped by {signal.Signals(number).name} {words}'


def end_process_of_group(status: int = 0) -> None:
    """End this process if it is one of several that work together; otherwise do nothing.

    Threads of gloo may still be there when a process ends in the usual way, and abort it ("terminate called without an
    active exception"), so that a training that is done counts as failed. What is registered for the end is run.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        atexit._run_exitfuncs()  # logs, writers, workers of data loaders
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
