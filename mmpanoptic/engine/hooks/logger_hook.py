"""Logging of scores: tables on the terminal, records for vis backends, and files from one process only."""

from mmengine.dist import is_main_process
from mmengine.evaluator import Evaluator
from mmengine.hooks import LoggerHook as MMEngineLoggerHook
from mmengine.runner import Runner
from mmengine.visualization import LocalVisBackend

from mmpanoptic.evaluation.tables import ClassScores, closing_tables, main_scores, score_line
from mmpanoptic.registry import HOOKS
from mmpanoptic.utils.logs import file_only


@HOOKS.register_module()
class LoggerHook(MMEngineLoggerHook):
    """mmengine's hook with readable scores; only the first process writes the scores of a test.

    mmengine's hook writes the scores of a test in all processes at once, to the same file. Its line of all scores goes
    to the log file only. The terminal shows a table after a test and a line after a validation, both in percent.

    The main scores of a test are recorded in TensorBoard and other vis backends as ``test/<name>``; mmengine does not
    record them. Their step is the epoch or iteration at which the checkpoint was saved, as in a validation. The local
    backend gets none, because its file holds the curves of a training, and the scores of a test have their own file.
    """

    _saved_at = 0

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Remember the epoch or iteration at which the checkpoint was saved; 0 if the file does not tell."""
        meta = checkpoint.get('meta') if isinstance(checkpoint, dict) else None
        step = meta.get('epoch' if self.log_metric_by_epoch else 'iter') if isinstance(meta, dict) else None
        self._saved_at = step if isinstance(step, int) else 0

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Log the scores of a validation."""
        with file_only():
            super().after_val_epoch(runner, metrics)
            if metrics and (classes := class_scores(runner.val_loop.evaluator)):
                runner.logger.info('\n' + closing_tables(metrics, classes))
        if metrics:
            done = ''
            if _trains(runner):
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
            self._record(runner, {f'test/{key}': value for key, value in main_scores(metrics).items()})

    def _record(self, runner: Runner, scores: dict[str, float]) -> None:
        """Record scores in all vis backends except the local one; a full disk does not end the run."""
        step = self._saved_at
        if _trains(runner):
            step = runner.epoch if self.log_metric_by_epoch else runner.iter
        try:
            for backend in runner.visualizer._vis_backends.values():
                if not isinstance(backend, LocalVisBackend):
                    backend.add_scalars(scores, step=step)
        except OSError as error:
            runner.logger.warning(f'Scores cannot be recorded ({error.strerror or error}): the run goes on')


def _trains(runner: Runner) -> bool:
    """Whether the runner has built its training loop; access to ``train_loop`` would build it."""
    return runner._train_loop is not None and not isinstance(runner._train_loop, dict)


def class_scores(evaluator: Evaluator) -> list[ClassScores]:
    """The class scores that metrics of an evaluator keep; on the first process, after metrics were computed."""
    kept = (getattr(metric, 'class_scores', None) for metric in evaluator.metrics)
    return [scores for scores in kept if scores is not None]
