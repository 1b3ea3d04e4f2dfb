"""What the command-line tools share: one-line errors, configs, distributed set-up."""

import os
import os.path as osp
import sys
from collections.abc import Callable

import torch
from mmengine.config import Config

from .errors import UserError


def run(main: Callable[[], None]) -> None:
    """Run a tool; a :class:`UserError` ends it with one line on stderr and exit status 1.

    An error raised in a data-loading worker arrives with the worker's traceback as its message, of which the last line
    is the error itself.
    """
    try:
        main()
    except UserError as error:
        line = str(error).strip().split('\n')[-1]
        print(f'error: {line.split("Error: ", 1)[-1] if "Error: " in line else line}', file=sys.stderr)
        sys.exit(1)


def load_config(path: str, options: dict | None = None, work_dir: str | None = None) -> Config:
    """Read a config and apply ``--cfg-options`` and ``--work-dir``.

    Raises:
        UserError: If there is no such file, it cannot be read, or an option does not fit.
    """
    if not osp.isfile(path):
        raise UserError(f'config {path} does not exist: see configs/')
    try:
        config = Config.fromfile(path)
    except (SyntaxError, FileNotFoundError, KeyError, TypeError, OSError) as error:
        raise UserError(f'config {path} cannot be read: {type(error).__name__}, {str(error).splitlines()[0]}') from None
    if options:
        try:
            config.merge_from_dict(options)
        except (KeyError, TypeError, IndexError) as error:
            raise UserError(f'--cfg-options does not fit {path}: {error}') from None
    if work_dir is not None:
        config.work_dir = work_dir
    elif config.get('work_dir') is None:
        config.work_dir = osp.join('work_dirs', osp.splitext(osp.basename(path))[0])
    return config


def require_file(path: str, what: str) -> None:
    """Refuse a local path that does not exist; addresses with a scheme are left to the loader.

    Raises:
        UserError: If there is no such file.
    """
    if '://' not in path and not osp.isfile(path):
        raise UserError(f'{what} {path} does not exist')


def set_up_devices(config: Config) -> None:
    """Make distributed runs work without a GPU.

    mmengine selects a CUDA device on start and hands its number to DDP; neither exists on a CPU, where gloo takes the
    place of NCCL.
    """
    if config.launcher == 'none' or torch.cuda.is_available():
        return
    config.env_cfg.dist_cfg = dict(backend='gloo')
    config.model_wrapper_cfg = dict(
        type='MMDistributedDataParallel',
        device_ids=None,
        broadcast_buffers=False,
        find_unused_parameters=config.get('find_unused_parameters', False),
    )
    if config.launcher == 'pytorch' and not torch.distributed.is_initialized():
        torch.distributed.init_process_group(backend='gloo')


def set_local_rank(local_rank: int) -> None:
    """Launchers give the rank as an argument or in the environment; mmengine reads the latter."""
    os.environ.setdefault('LOCAL_RANK', str(local_rank))
