"""Instances of one image in a graph."""

from typing import NamedTuple

from torch import Tensor


class Instances(NamedTuple):
    """Instances above the fusion's ``score_thr``, best first, at the size of the output.

    Attributes:
        boxes: Boxes of shape (N, 4), in pixels.
        scores, labels: Scores and labels of shape (N,).
        probabilities: Mask probabilities within the boxes, of shape (N, h, w).
        threshold: Least probability of a pixel of a mask.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    probabilities: Tensor
    threshold: float

    def in_order(self, order: Tensor) -> 'Instances':
        """The same instances in another order."""
        return Instances(
            self.boxes[order], self.scores[order], self.labels[order], self.probabilities[order], self.threshold
        )
