"""The loss of a semantic branch, on one or several processes."""

from mmdet.utils import reduce_mean
from torch import Tensor, nn


def semantic_loss(loss_seg: nn.Module, logits: Tensor, labels: Tensor) -> Tensor:
    """Apply ``loss_seg``; a mean over labelled pixels is taken over those of all processes.

    mmdet's cross-entropy divides by the number of labelled pixels of its own process. With several processes, a pixel
    would weigh more if its process had fewer labelled pixels. On one process the result is mmdet's to the last bit.

    Args:
        loss_seg: The loss. Only mmdet's softmax cross-entropy with ``avg_non_ignore`` and reduction 'mean' is divided
            by the count of all processes.
        logits: Of shape (N, C, H, W).
        labels: Of shape (N, H, W), int64.
    """
    needed = dict(avg_non_ignore=True, use_sigmoid=False, reduction='mean')
    ignored = getattr(loss_seg, 'ignore_index', None)
    if ignored is None or any(getattr(loss_seg, name, None) != value for name, value in needed.items()):
        return loss_seg(logits, labels)
    # float64 holds every count exactly, like the integer that mmdet divides by.
    count = reduce_mean((labels != ignored).sum().double())
    return loss_seg(logits, labels, avg_factor=count.item())
