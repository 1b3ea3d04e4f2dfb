"""mIoU of panoptic maps."""

import functools
from collections.abc import Sequence

import numpy as np
from mmengine.evaluator import BaseMetric

from mmpanoptic.evaluation.tables import ClassScores
from mmpanoptic.registry import METRICS
from mmpanoptic.structures import INSTANCE_OFFSET, labels_of_ids

from .arguments import check_gathering, require_part


@METRICS.register_module()
class PanopticIoUMetric(BaseMetric):
    """mIoU over all classes, things and stuff, of the panoptic map taken as a semantic map.

    Void in the ground truth is ignored; void in the prediction is a miss. ``mIoU`` leaves out classes that occur
    neither in the ground truth nor in a prediction, ``mAcc`` those that do not occur in the ground truth.

    Args:
        classwise: Whether to keep IoU and recall of every class, as ``class_scores``.
        kwargs: See :class:`mmengine.evaluator.BaseMetric`.

    Raises:
        UserError: If an image has no ground truth or no panoptic prediction.
    """

    default_prefix = 'semantic'

    def __init__(self, classwise: bool = False, **kwargs) -> None:
        super().__init__(**kwargs)
        check_gathering(self, kwargs)
        self.classwise = classwise
        self.class_scores: ClassScores | None = None

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Count pixels by class of the ground truth and of the prediction."""
        void = len(self.dataset_meta['classes'])
        for sample in data_samples:
            ground_truth = require_part(sample, 'gt_panoptic_seg', 'load annotations in the test pipeline')
            predicted = require_part(
                sample, 'pred_panoptic_seg', 'the model gives no panoptic map, so mIoU is not defined'
            )
            ids = ground_truth['sem_seg'].squeeze(0).cpu().numpy()
            labels = labels_of_ids(ids, ground_truth['segments_info'], void)
            pairs = labels * (void + 1) + predicted['sem_seg'].squeeze(0).cpu().numpy() % INSTANCE_OFFSET
            self.results.append(
                np.bincount(pairs.ravel(), minlength=(void + 1) ** 2).reshape(void + 1, void + 1)[:void]
            )

    def compute_metrics(self, results: list[np.ndarray]) -> dict[str, float]:
        """Add up the images.

        Returns:
            ``mIoU``, ``mAcc`` (mean recall of the classes) and ``aAcc`` (share of correct pixels), in percent.
        """
        pixels: np.ndarray = functools.reduce(np.add, results)  # (C, C + 1): rows are the ground truth, void is last
        right, truth, predicted = np.diagonal(pixels), pixels.sum(1), pixels.sum(0)[:-1]
        with np.errstate(invalid='ignore'):
            iou, recall = 100 * right / (truth + predicted - right), 100 * right / truth
        if self.classwise:
            names, columns = self.dataset_meta['classes'], {'IoU': iou, 'Acc': recall}
            self.class_scores = ClassScores(
                {header: dict(zip(names, values.tolist(), strict=True)) for header, values in columns.items()},
                {header: _mean(values) for header, values in columns.items()},
            )
        return dict(mIoU=_mean(iou), mAcc=_mean(recall), aAcc=_mean(100 * right.sum() / np.maximum(truth.sum(), 1)))


def _mean(values: np.ndarray) -> float:
    """Mean of the values that are not NaN; 0 if all are."""
    values = np.atleast_1d(values)
    return float(values[~np.isnan(values)].mean()) if not np.isnan(values).all() else 0.0
