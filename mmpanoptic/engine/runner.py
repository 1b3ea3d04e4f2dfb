"""The runner of the tools for training and testing."""

import functools
import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

from mmengine.config import Config
from mmengine.dist import master_only
from mmengine.evaluator import Evaluator
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import RUNNERS
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import nn
from torch.utils.data import DataLoader

from mmpanoptic.datasets.pipelines import list_steps
from mmpanoptic.utils import UserError, is_local, require_folder
from mmpanoptic.utils.outputs import WriteError, whole_file

from .checkpoint_files import latest_checkpoint
from .class_counts import counted_model
from .components import building, running
from .data_loading import WorkerStart
from .devices import set_up_devices
from .precision import choose_precision
from .terminal import LogFile, is_for_terminal, without_printed_noise

# Arguments of a data loader that torch refuses without workers.
_OF_WORKERS = ('persistent_workers', 'prefetch_factor', 'timeout')


class ToolRunner(Runner):
    """mmengine's runner with short output on the terminal, checked data loaders and metrics, and safe checkpoints."""

    def train(self) -> nn.Module:
        """See :class:`mmengine.runner.Runner`."""
        with running(self.cfg):
            return super().train()

    def test(self) -> dict:
        """See :class:`mmengine.runner.Runner`."""
        with running(self.cfg):
            return super().test()

    def build_logger(self, *args, **kwargs) -> MMLogger:
        """Build a logger whose long messages go to its file only, and which a full disk does not stop."""
        # An earlier run in this process that began in the same second has the same name; drop its log and curves.
        for kind in (MMLogger, MessageHub):
            kind._instance_dict.pop(self.experiment_name, None)
        logger = super().build_logger(*args, **kwargs)
        for handler in list(logger.handlers):
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(is_for_terminal)
            elif not isinstance(handler, LogFile):
                logger.removeHandler(handler)
                handler.close()
                logger.addHandler(LogFile.like(handler))
        logger.info(f'Environment, config and hooks are written to {self._log_dir}')
        return logger

    def resume(self, *args, **kwargs) -> None:
        """See :class:`mmengine.runner.Runner`; logs if nothing is left to train."""
        super().resume(*args, **kwargs)
        by_epoch = isinstance(self.train_loop, EpochBasedTrainLoop)
        unit, done, last = ('epochs', self.epoch, self.max_epochs) if by_epoch else ('iters', self.iter, self.max_iters)
        if done >= last:
            self.logger.info(
                f'This training is finished: {done} of {last} {unit} are done. To go on, resume with more of them '
                f'(--cfg-options train_cfg.max_{unit}={2 * last}), and with a param_scheduler that reaches so far'
            )

    def load_checkpoint(self, *args, **kwargs) -> dict:
        """See :class:`mmengine.runner.Runner`."""
        with without_printed_noise():
            return super().load_checkpoint(*args, **kwargs)

    @staticmethod
    def build_dataloader(dataloader: DataLoader | dict, seed: int | None = None, diff_rank_seed: bool = False):
        """Build a data loader whose workers end with this process; without workers, settings of workers are dropped."""
        if isinstance(dataloader, Mapping) and dataloader.get('num_workers') == 0:
            dataloader = {key: value for key, value in dataloader.items() if key not in _OF_WORKERS}
        built = Runner.build_dataloader(dataloader, seed, diff_rank_seed)
        if not isinstance(built.worker_init_fn, WorkerStart):
            built.worker_init_fn = WorkerStart(built.worker_init_fn)
        return built

    def build_evaluator(self, evaluator: dict | list | Evaluator) -> Evaluator:
        """See :class:`mmengine.runner.Runner`.

        Raises:
            UserError: If two metrics give scores of the same name; mmengine would fail after the last image.
        """
        built = super().build_evaluator(evaluator)
        seen = set()
        for metric in built.metrics:
            for kind in getattr(metric, 'metrics', [type(metric).__name__]):
                if metric.prefix and (metric.prefix, kind) in seen:
                    raise UserError(
                        f'two metrics of an evaluator give {metric.prefix}/{kind}: set `prefix` of one of them'
                    )
                seen.add((metric.prefix, kind))
        return built

    @master_only
    def save_checkpoint(self, out_dir: str, filename: str, *args, **kwargs) -> None:
        """Write a checkpoint, whole or not at all.

        Raises:
            UserError: If it cannot be written, naming the newest whole checkpoint.
        """
        if not is_local(out_dir, kwargs.get('backend_args')):
            super().save_checkpoint(out_dir, filename, *args, **kwargs)
            return
        try:
            with whole_file(os.path.join(out_dir, filename)) as file:  # mmengine opens it again by its name
                super().save_checkpoint(out_dir, os.path.basename(file.name), *args, **kwargs)
        except WriteError as error:
            newest = latest_checkpoint(out_dir)
            if newest is None:
                raise
            raise UserError(f'{error}; {newest} is whole: make room and go on from it with --resume') from None


# Methods of the runner that build or initialise parts, and the config keys that they read.
_PARTS = {
    'setup_env': ('env_cfg',),
    'set_randomness': ('randomness',),
    'build_log_processor': ('log_processor',),
    'build_visualizer': ('visualizer',),
    'build_model': ('model',),
    'wrap_model': ('model_wrapper_cfg', 'model'),
    'register_default_hooks': ('default_hooks',),
    'register_custom_hooks': ('custom_hooks',),
    'build_train_loop': ('train_dataloader', 'train_cfg'),
    'build_optim_wrapper': ('optim_wrapper',),
    'scale_lr': ('auto_scale_lr',),
    'build_param_scheduler': ('param_scheduler',),
    'build_val_loop': ('val_dataloader', 'val_evaluator', 'val_cfg'),
    'build_test_loop': ('test_dataloader', 'test_evaluator', 'test_cfg'),
    '_init_model_weights': ('model',),
}


def _naming_keys(method: Callable, parts: tuple[str, ...]) -> Callable:
    """Wrap a method of the runner so that its errors name the key of the config."""

    @functools.wraps(method)
    def call(self: Runner, *args: Any, **kwargs: Any) -> Any:
        with building(self.cfg, *parts):
            return method(self, *args, **kwargs)

    call.__doc__ = f'As in :class:`mmengine.runner.Runner`; an error names ``{"``, ``".join(parts)}`` of the config.'
    return call


for _name, _keys in _PARTS.items():
    setattr(ToolRunner, _name, _naming_keys(getattr(ToolRunner, _name), _keys))


def build_runner(config: Config, loader: str = 'train_dataloader') -> Runner:
    """Build the runner of a config; make its work dir and set up distributed training first.

    The runner writes the config into the work dir. Therefore pipelines become lists, and 'auto' becomes a number.

    Args:
        config: The config, changed in place.
        loader: Key of the data loader whose classes replace 'auto' in numbers of classes.
    """
    list_steps(config._cfg_dict)
    require_folder(config.work_dir, 'work_dir')
    set_up_devices(config)
    if isinstance(config.get('model'), dict):
        config.model = counted_model(config, (loader,))
    if loader == 'train_dataloader' and isinstance(config.get('optim_wrapper'), dict):
        choose_precision(config, None)
    with building(config):
        return RUNNERS.build(config) if 'runner_type' in config else ToolRunner.from_cfg(config)
