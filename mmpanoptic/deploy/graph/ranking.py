"""The learned order of instances, computed by loops over strips of the ranking map.

The scores are those of :class:`mmpanoptic.models.RankingFusion` on a CPU, up to rounding. Masks are computed only for
the current strip, so that no mask needs memory for the whole image.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from mmpanoptic.models import RankingFusion

from .image import in_double
from .instances import Instances
from .paste import hat, mask_windows
from .sizes import Scalar, Size

#: Number of cells of a strip. A strip of the usual grid has a few hundred rows, and COCO's 80 classes take 84 MB.
STRIP_CELLS = 2**18


def scripted_scores(head: RankingFusion) -> Callable[..., Tensor]:
    """Script the loop over strips of :func:`ranking_scores` with the weights of a RankingFusion.

    The loop is a scripted function, because a trace can call scripted functions but not modules.
    """
    branches = [[(conv.weight.detach(), conv.bias.detach(), conv.padding) for conv in convs]
                for convs in head.ranking.branches]  # fmt: skip

    def logits_of(tensor: Tensor) -> Tensor:
        total = torch.zeros_like(tensor)
        for convs in branches:
            x = tensor
            for weight, bias, padding in convs:
                x = F.conv2d(x, weight, bias, padding=padding)
            total = total + x
        return total

    logits = torch.jit.trace(logits_of, torch.zeros(1, head.num_things_classes, 8, 8))

    def scores(
        probabilities: Tensor, labels: Tensor, rows: Tensor, columns: Tensor, own_cells: Tensor,
        first_row: Tensor, last_row: Tensor, threshold: float,
        num_classes: int, halo: int, strip_cells: int, in_conflict: bool, of_classes: bool,
    ) -> Tensor:  # fmt: skip
        count, width, height = probabilities.shape[0], columns.shape[1], rows.shape[1]
        first, last = int(first_row), int(last_row)
        across = torch.matmul(probabilities, columns.transpose(1, 2))
        is_class = (torch.arange(num_classes)[:, None] == labels).float()
        sums, areas = torch.zeros(count, dtype=torch.float64), torch.zeros(count, dtype=torch.float64)
        step = max(1, strip_cells // width)
        for strip in range((last - first + step - 1) // step):
            top = first + strip * step
            bottom = min(top + step, last)
            upper, lower = max(0, top - halo), min(height, bottom + halo)
            masks = torch.matmul(rows[:, upper:lower], across) >= threshold
            row_is_own = torch.arange(upper, lower) == own_cells[:, :1]
            column_is_own = torch.arange(width) == own_cells[:, 1:]
            masks = (masks | (row_is_own[:, :, None] & column_is_own[:, None, :])).float()
            tensor = (torch.matmul(is_class, masks.flatten(1)) > 0).float()
            tensor = tensor.reshape(num_classes, lower - upper, width)
            ranks = logits(tensor[None])[0, :, top - upper : bottom - upper].softmax(dim=0)
            inside = masks[:, top - upper : bottom - upper]
            if in_conflict:
                overlapping = (tensor if of_classes else masks).sum(dim=0) >= 2
                inside = inside * overlapping[top - upper : bottom - upper].float()
            sums = sums + (ranks.index_select(0, labels) * inside).sum(dim=(1, 2)).double()
            areas = areas + inside.sum(dim=(1, 2)).double()
        return (sums / areas.clamp(min=1)).float()

    return torch.jit.script(scores)


@torch.jit.script
def cells_of_unseen(
    probabilities: Tensor, boxes: Tensor, windows: Tensor, at_rows: Tensor, at_columns: Tensor,
    height: Tensor, width: Tensor, threshold: float,
) -> Tensor:  # fmt: skip
    """A cell for each mask that covers no centre of a cell, as in ``with_a_cell_each``; -1 for all other masks.

    Args:
        probabilities, boxes, windows, threshold: See :func:`~.paste.paste`.
        at_rows, at_columns: Pixels at the centres of the grid's rows and columns.
        height, width: Size of the image as scalar tensors, since numbers would become constants of a trace.

    Returns:
        Row and column of the cells, int64 of shape (N, 2).
    """
    # If each pixel is the centre of a cell, every mask is seen, and the loop has no rounds.
    is_coarser = (torch._shape_as_tensor(at_rows)[0] < height) | (torch._shape_as_tensor(at_columns)[0] < width)
    rounds = int(torch._shape_as_tensor(probabilities)[0] * is_coarser.to(torch.int64))
    numbers = torch.arange(probabilities.shape[0])
    own_rows, own_columns = numbers * 0 - 1, numbers * 0 - 1
    for index in range(rounds):
        top, bottom = int(windows[index, 0]), int(windows[index, 1])
        left, right = int(windows[index, 2]), int(windows[index, 3])
        box, mask = boxes[index], probabilities[index]
        rows = hat(top, bottom, box[1], box[3], mask.shape[0])
        columns = hat(left, right, box[0], box[2], mask.shape[1])
        inside = (torch.matmul(torch.matmul(rows, mask), columns.t()) >= threshold).to(torch.int64)
        down, across = torch.arange(top, bottom), torch.arange(left, right)
        on_rows = (down[:, None] == at_rows).sum(dim=1)
        on_columns = (across[:, None] == at_columns).sum(dim=1)
        unseen = (inside.sum() > 0) & ((inside * on_rows[:, None] * on_columns).sum() == 0)
        far = height + width
        in_row, in_column = inside.sum(dim=1) > 0, inside.sum(dim=0) > 0
        none = torch.zeros(1, dtype=torch.int64)
        first_row = torch.cat([torch.where(in_row, down, far), none + far]).min()
        last_row = torch.cat([torch.where(in_row, down + 1, 0), none]).max()
        first_column = torch.cat([torch.where(in_column, across, far), none + far]).min()
        last_column = torch.cat([torch.where(in_column, across + 1, 0), none]).max()
        row = (first_row + last_row) // 2 * at_rows.shape[0] // height
        column = (first_column + last_column) // 2 * at_columns.shape[0] // width
        is_own = ((numbers == index) & unseen).to(torch.int64)
        own_rows, own_columns = own_rows + is_own * (row + 1), own_columns + is_own * (column + 1)
    return torch.stack([own_rows, own_columns], dim=1)


def ranking_scores(
    scores: Callable[..., Tensor],
    head: RankingFusion,
    instances: Instances,
    output_size: Size,
    input_size: Size,
) -> Tensor:
    """Ranking scores of instances as in ``RankingFusion.ranking_scores``.

    Args:
        scores: Result of :func:`scripted_scores`.
        head: The fusion head.
        instances: N instances.
        output_size: Height and width of the map.
        input_size: Height and width of the network's input without padding.
    """
    boxes, probabilities = instances.boxes, instances.probabilities
    windows = mask_windows(boxes, *output_size)
    at_rows, at_columns = (
        ((2 * torch.arange(cells) + 1) * pixels).div(2 * cells, rounding_mode='floor')
        for pixels, cells in zip(output_size, (_cells(side, head.stride) for side in input_size), strict=True)
    )
    own_cells = cells_of_unseen(probabilities, boxes, windows, at_rows, at_columns, *output_size, instances.threshold)
    rows = _weights(at_rows, boxes[:, 1:2], boxes[:, 3:4], windows[:, 0:1], windows[:, 1:2], probabilities.shape[1])
    columns = _weights(
        at_columns, boxes[:, 0:1], boxes[:, 2:3], windows[:, 2:3], windows[:, 3:4], probabilities.shape[2]
    )
    # Rows from the first to the last one with a mask; without instances, one row.
    none = torch.zeros(1, dtype=torch.long)
    tops, bottoms = torch.cat([windows[:, 0], output_size[0][None]]), torch.cat([windows[:, 1], none])
    first, last = (at_rows < tops.min()).long().sum(), (at_rows < bottoms.max()).long().sum()
    own = torch.cat([own_cells[:, 0], none - 1])
    last = torch.maximum(last, own.max() + 1)
    first = torch.where(own.max() >= 0, 0, first)
    return scores(
        probabilities, instances.labels, rows, columns, own_cells, first, last, instances.threshold,
        head.num_things_classes, head.ranking.halo[0], STRIP_CELLS,
        head.score_region == 'conflict', head.conflict == 'class',
    )  # fmt: skip


def _cells(side: Scalar, stride: int) -> Scalar:
    """Number of cells of the grid along a side of the input."""
    return side if stride == 1 else (in_double(side) / stride).round().long().clamp(min=1)[0]


def _weights(at: Tensor, low: Tensor, high: Tensor, first: Tensor, last: Tensor, cells: int) -> Tensor:
    """Bilinear weights of the pixels ``at``, of shape (N, pixels, cells): :func:`~.paste.hat`, 0 outside the window."""
    place = (at.float() + 0.5 - low) / (high - low) * 2 - 1
    place = torch.where(place.abs() == float('inf'), torch.zeros_like(place), place)
    place = ((place + 1) * cells - 1) / 2
    weights = (1 - (place[..., None] - torch.arange(cells).float()).abs()).clamp(min=0)
    return weights * ((at >= first) & (at < last))[..., None].float()
