"""Logging of several processes."""

from mmengine.dist import is_main_process
from mmengine.hooks import LoggerHook as MMEngineLoggerHook
from mmengine.runner import Runner

from mmpanoptic.registry import HOOKS


@HOOKS.register_module()
class LoggerHook(MMEngineLoggerHook):
    """mmengine's hook, of which the first process alone writes the scores of a test.

    mmengine's own writes them in every process, at once, to the same file.
    """

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Log the scores and write them to the log dir."""
        if is_main_process():
            super().after_test_epoch(runner, metrics)
