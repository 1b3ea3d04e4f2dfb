"""The loss of a semantic branch, of one process and of several."""

from mmdet.utils import reduce_mean
from torch import Tensor, nn


def semantic_loss(loss_seg: nn.Module, logits: Tensor, labels: Tensor) -> Tensor:
    """What ``loss_seg`` gives; where ignored pixels do not count in it, the mean is over the pixels of all processes.

    mmdet's cross-entropy divides by the labelled pixels of its own process: with several, a pixel would weigh the more
    the fewer labelled ones its process has. On one process the result is mmdet's to the last bit.

    Args:
        loss_seg: The loss. Only the mean of mmdet's softmax cross-entropy with ``avg_non_ignore`` is divided anew.
        logits: Of shape (N, C, H, W).
        labels: Of shape (N, H, W), int64.
    """
    needed = dict(avg_non_ignore=True, use_sigmoid=False, reduction='mean')
    ignored = getattr(loss_seg, 'ignore_index', None)
    if ignored is None or any(getattr(loss_seg, name, None) != value for name, value in needed.items()):
        return loss_seg(logits, labels)
    # In float64, which holds every count, as the integer does that mmdet divides by.
    count = reduce_mean((labels != ignored).sum().double())
    return loss_seg(logits, labels, avg_factor=count.item())
