"""What the command-line tools share: one-line errors, configs, the terminal, distributed set-up."""

import argparse
import atexit
import inspect
import logging
import os
import os.path as osp
import sys
import traceback
import warnings
from collections.abc import Callable
from urllib.error import URLError

import torch
from mmengine.config import Config, DictAction
from mmengine.dist import is_main_process
from mmengine.hooks import LoggerHook
from mmengine.logging import MMLogger
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from .errors import UserError

# Beginnings of messages that go to the log file only: hundreds of lines, or deprecations inside of mmengine.
_FILE_ONLY = (
    f'\n{"-" * 60}\nSystem environment',
    'Config:\n',
    'Hooks will be executed',
    'Distributed training is not used',
    '"FileClient" will be deprecated',
    '"HardDiskBackend" is the alias',
)
# Keys of a config that mmengine reads although no argument of its Runner has their name.
_OTHER_KEYS = {'activation_checkpointing', 'compile', 'custom_imports', 'efficient_conv_bn_eval'} | {
    'find_unused_parameters',
    'model_wrapper_cfg',
    'runner_type',
    'sync_bn',
}


def run(main: Callable[[], None]) -> None:
    """Run a tool; a :class:`UserError` ends it with one line on stderr and exit status 1."""
    # mmdet warns of the averaging that its own Panoptic FPN uses.
    warnings.filterwarnings('ignore', message='Default ``avg_non_ignore``')
    warnings.filterwarnings('ignore', message='Panoptic segmentation map will not be compressed')  # --out says so
    warnings.filterwarnings('ignore', message='Setting ..._NUM_THREADS environment variable')
    warnings.filterwarnings('ignore', message='`broadcast_buffers` is deprecated', category=FutureWarning)
    try:
        main()
    except UserError as error:
        print(f'error: {one_line(error)}', file=sys.stderr)
        sys.exit(1)
    except URLError as error:
        print(f'error: a file could not be fetched ({error.reason}): give a local path instead', file=sys.stderr)
        sys.exit(1)
    end_process_of_group()


def end_process_of_group() -> None:
    """End this process, with status 0, if it is one of several that work together; otherwise do nothing.

    Threads of gloo may still be there when a process ends in the usual way, and abort it ("terminate called without an
    active exception"), so that a training that is done counts as failed. What is registered for the end is run.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        atexit._run_exitfuncs()  # logs, writers, workers of data loaders
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def one_line(error: Exception) -> str:
    """The message of an error on one line.

    From a data-loading worker it arrives with the worker's traceback around it.
    """
    text = str(error)
    if text.startswith('Caught ') and 'Original Traceback' in text:
        text = text.rsplit(f'{type(error).__module__}.{type(error).__qualname__}: ', 1)[-1]
    return ' '.join(line.strip() for line in text.splitlines() if line.strip())


class Options(DictAction):
    """``--cfg-options key=value ...``; what is no such pair is a :class:`UserError`."""

    def __call__(self, parser: argparse.ArgumentParser, namespace, values, option_string=None) -> None:
        """Store the pairs as a dict."""
        try:
            super().__call__(parser, namespace, values, option_string)
        except (ValueError, AssertionError) as error:
            raise UserError(f'{option_string} {" ".join(values)} is not of the form key=value: {error}') from None


def load_config(path: str, options: dict | None = None, work_dir: str | None = None) -> Config:
    """Read a config and apply ``--cfg-options`` and ``--work-dir``.

    Raises:
        UserError: If there is no such file, it cannot be read, or an option does not fit.
    """
    if not osp.isfile(path):
        raise UserError(f'config {path} does not exist: see configs/')
    try:
        config = Config.fromfile(path)
    except Exception as error:  # a config is code, which can fail in any way
        lines = [f':{f.lineno}' for f in traceback.extract_tb(error.__traceback__) if f.filename.endswith(path)]
        raise UserError(
            f'config {path}{"".join(lines[-1:])} cannot be read: {type(error).__name__}, {one_line(error)}'
        ) from None
    for key in options or {}:
        name = key.split('.')[0]
        if name not in {*config, *inspect.signature(Runner.__init__).parameters, *_OTHER_KEYS}:
            raise UserError(f'--cfg-options {key}: {path} has no {name!r}, so setting it would change nothing')
    try:
        config.merge_from_dict(options or {})
    except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        raise UserError(f'--cfg-options does not fit {path}: {one_line(error)}') from None
    if work_dir is not None:
        config.work_dir = work_dir
    elif config.get('work_dir') is None:
        config.work_dir = osp.join('work_dirs', osp.splitext(osp.basename(path))[0])
    return config


class _ToolRunner(Runner):
    """Keeps the terminal to what a user reads while waiting."""

    def build_logger(self, *args, **kwargs) -> MMLogger:
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(lambda record: not record.getMessage().startswith(_FILE_ONLY))
        logger.info(f'Environment, config and hooks are written to {self._log_dir}')
        return logger


def build_runner(config: Config) -> Runner:
    """The runner of a config, with its work dir made and distributed training set up."""
    require_folder(config.work_dir, '--work-dir')
    set_up_devices(config)
    runner = RUNNERS.build(config) if 'runner_type' in config else _ToolRunner.from_cfg(config)
    if not is_main_process():
        for hook in runner.hooks:
            if isinstance(hook, LoggerHook):  # otherwise every rank writes the scores, at once, to the same file
                hook.after_test_epoch = lambda *args, **kwargs: None
    return runner


def require_file(path: str, what: str) -> None:
    """Refuse a local path that does not exist; addresses with a scheme are left to the loader.

    Raises:
        UserError: If there is no such file.
    """
    if '://' not in path and not osp.isfile(path):
        raise UserError(f'{what} {path} does not exist')


def require_folder(path: str, what: str) -> None:
    """Make the folder that results go to now rather than after hours of work.

    Raises:
        UserError: If it cannot be made or written to.
    """
    try:
        os.makedirs(path or '.', exist_ok=True)
    except OSError as error:
        raise UserError(f'{what}: {path} cannot be made: {error.strerror}') from None
    if not os.access(path or '.', os.W_OK):
        raise UserError(f'{what}: {path} cannot be written to')


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
        raise UserError(f'--launcher {config.launcher} needs GPUs: on CPUs use dist_train.sh and dist_test.sh')
    config.env_cfg.dist_cfg = dict(backend='gloo')
    config.model_wrapper_cfg = dict(
        type='MMDistributedDataParallel',
        device_ids=None,
        broadcast_buffers=False,
        find_unused_parameters=config.get('find_unused_parameters', False),
    )
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group(backend='gloo')


def set_local_rank(local_rank: int) -> None:
    """Launchers give the rank as an argument or in the environment; mmengine reads the latter."""
    os.environ.setdefault('LOCAL_RANK', str(local_rank))
