"""The runner that the tools train and test with."""

import logging

from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmpanoptic.datasets.pipelines import list_steps
from mmpanoptic.utils import require_folder

from .devices import set_up_devices

# Beginnings of messages that go to the log file only: hundreds of lines, or deprecations inside of mmengine.
_FILE_ONLY = (
    f'\n{"-" * 60}\nSystem environment',
    'Config:\n',
    'Hooks will be executed',
    'Distributed training is not used',
    '"FileClient" will be deprecated',
    '"HardDiskBackend" is the alias',
)


class ToolRunner(Runner):
    """mmengine's runner, which keeps the terminal to what a user reads while waiting."""

    def build_logger(self, *args, **kwargs) -> MMLogger:
        """A logger whose long messages go to its file alone."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(lambda record: not record.getMessage().startswith(_FILE_ONLY))
        logger.info(f'Environment, config and hooks are written to {self._log_dir}')
        return logger


def build_runner(config: Config) -> Runner:
    """The runner of a config, with its work dir made and distributed training set up.

    It writes the config into the work dir, therefore pipelines become lists.
    """
    list_steps(config._cfg_dict)
    require_folder(config.work_dir, 'work_dir')
    set_up_devices(config)
    return RUNNERS.build(config) if 'runner_type' in config else ToolRunner.from_cfg(config)
