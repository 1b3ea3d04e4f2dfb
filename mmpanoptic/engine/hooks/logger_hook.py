"""Logging: what is on the terminal, and what several processes write."""

from mmengine.dist import is_main_process
from mmengine.evaluator import Evaluator
from mmengine.hooks import LoggerHook as MMEngineLoggerHook
from mmengine.runner import Runner

from mmpanoptic.evaluation.tables import ClassScores, closing_tables, score_line
from mmpanoptic.registry import HOOKS
from mmpanoptic.utils.logs import file_only


@HOOKS.register_module()
class LoggerHook(MMEngineLoggerHook):
    """mmengine's hook, with scores that can be read, and of which the first process alone writes those of a test.

    mmengine's own writes them in every process, at once, to the same file. Its line of all scores goes to the log file
    alone. The terminal has a table after a test, and a line after a validation; both are in per cent.
    """

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Log the scores of a validation."""
        with file_only():
            super().after_val_epoch(runner, metrics)
            if metrics and (classes := class_scores(runner.val_loop.evaluator)):
                runner.logger.info('\n' + closing_tables(metrics, classes))
        if metrics:
            trains = runner._train_loop is not None and not isinstance(runner._train_loop, dict)
            done = ''
            if trains:
                by_epoch = runner.log_processor.by_epoch
                done = f' after {"epoch" if by_epoch else "iteration"} {runner.epoch if by_epoch else runner.iter}'
            runner.logger.info(f'Validation{done}: {score_line(metrics)}')

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Log the scores of a test and write them to the log dir."""
        if not is_main_process():
            return
        with file_only():
            super().after_test_epoch(runner, metrics)
        if metrics:
            runner.logger.info('\n' + closing_tables(metrics, class_scores(runner.test_loop.evaluator)))


def class_scores(evaluator: Evaluator) -> list[ClassScores]:
    """What the metrics of an evaluator keep of classes; on the first process, after they were computed."""
    kept = (getattr(metric, 'class_scores', None) for metric in evaluator.metrics)
    return [scores for scores in kept if scores is not None]
