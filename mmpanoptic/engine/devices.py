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
    """Make distributed runs work without a GPU, with gloo instead of NCCL.

    mmengine selects a CUDA device on start and passes its number to DDP; a CPU has no such number.

    Raises:
        UserError: If the launcher works with GPUs only.
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
    """Initialise the distributed processes of a run before its runner is built, as the runner would do it.

    Raises:
        UserError: See :func:`set_up_devices`.
    """
    set_up_devices(config)
    if config.launcher != 'none' and not is_distributed():
        settings = config.get('env_cfg') or {}
        set_multi_processing(**settings.get('mp_cfg', {}), distributed=True)
        init_dist(config.launcher, **settings.get('dist_cfg', {}))


def set_local_rank(local_rank: int) -> None:
    """Set the local rank in the environment, where mmengine reads it, if the launcher gave it as an argument only."""
    os.environ.setdefault('LOCAL_RANK', str(local_rank))


def is_first_process() -> bool:
    """Whether this is the first process of a run; works before the processes are initialised."""
    return int(os.environ.get('RANK', os.environ.get('SLURM_PROCID', 0))) == 0


class Stopped(SystemExit):
    """A signal has ended the run; the exit status is 128 plus the signal's number.

    Args:
        number: The signal.
        words: Where the run ended, and how to continue.
    """

    def __init__(self, number: int, words: str) -> None:
        self.status = 128 + number
        super().__init__(self.status)
        self.words = f'stopped by {signal.Signals(number).name} {words}'


def end_process_of_group(status: int = 0) -> None:
    """End this process at once if it is one of several distributed ones; otherwise do nothing. Exit handlers are run.

    If the process ended normally, remaining threads of gloo could abort it ("terminate called without an active
    exception"), and a finished training would count as failed.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        atexit._run_exitfuncs()  # logs, writers, workers of data loaders
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
