"""Files of a test: they are written after the scores, so that a full disk costs the files alone."""

import contextlib
import pickle
from collections.abc import Iterator, Sequence

from mmdet.evaluation import DumpDetResults
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.logging import MMLogger

from mmpanoptic.registry import METRICS
from mmpanoptic.utils import UserError, whole_file

from .arguments import check_gathering


@contextlib.contextmanager
def after_scores(metric: BaseMetric) -> Iterator[None]:
    """Keep an error of writing as ``metric.unwritten`` until the scores are out: see :func:`raise_unwritten`."""
    metric.unwritten = None
    try:
        yield
    except UserError as error:
        metric.unwritten = error
        MMLogger.get_current_instance().error(str(error))


def raise_unwritten(evaluator: Evaluator) -> None:
    """To be called after a test, when its scores are printed.

    Raises:
        UserError: The first that a metric kept.
    """
    for metric in evaluator.metrics:
        if getattr(metric, 'unwritten', None) is not None:
            raise metric.unwritten


@METRICS.register_module()
class PredictionDump(DumpDetResults):
    """All predictions as a pickle file, whole or not at all.

    See :class:`mmdet.evaluation.DumpDetResults`, whose failure to write would lose the scores of other metrics.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        check_gathering(self, kwargs)

    def compute_metrics(self, results: Sequence[dict]) -> dict:
        """Write the file; called on the first rank."""
        with after_scores(self):
            with whole_file(self.out_file_path) as file:
                pickle.dump(results, file, protocol=pickle.HIGHEST_PROTOCOL)
            MMLogger.get_current_instance().info(f'Predictions written to {self.out_file_path}')
        return {}
