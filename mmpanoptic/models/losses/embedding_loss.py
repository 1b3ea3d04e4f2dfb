"""Losses that pull the embedding of a pixel to one query and push it away from others."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

_LOG_FLOOR = 1e-6  # least argument of the logarithm
_SHORTEST = 1e-6  # embeddings shorter than this have no direction


def segment_sums(pixels: Tensor, segments: Tensor, num_segments: int) -> Tensor:
    """Sum the embeddings of each segment.

    Args:
        pixels: Embeddings of shape (D, P).
        segments: Segment of each pixel, int64 of shape (P,); a value outside [0, ``num_segments``) means none.
        num_segments: Number of segments M.

    Returns:
        Of shape (M, D), differentiable.
    """
    # Pixels without a segment go into an extra bin.
    is_none = (segments < 0) | (segments >= num_segments)
    bins = segments.masked_fill(is_none, num_segments)
    return pixels.new_zeros(len(pixels), num_segments + 1).index_add(1, bins, pixels)[:, :num_segments].T


def mean_queries(sums: Tensor) -> Tensor:
    """Unit vectors along sums of embeddings, (M, D) to (M, D).

    Source: CIAE, section III, https://arxiv.org/abs/2009.13342: embeddings are summed without normalisation, so longer
    ones count more.
    """
    return F.normalize(sums, dim=1)


def enlarge_boxes(boxes: Tensor, scale: float) -> Tensor:
    """Boxes x1, y1, x2, y2 of shape (M, 4), ``scale`` times as wide and high about the same centres."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    halves = (boxes[:, 2:] - boxes[:, :2]) * (scale / 2)
    return torch.cat([centres - halves, centres + halves], dim=1)


def _outside(boxes: Tensor, points: Tensor) -> Tensor:
    """Whether points, of shape (2, P), lie outside of boxes, of shape (M, 4): bool of shape (M, P)."""
    x, y = points
    x1, y1, x2, y2 = boxes[:, :, None].unbind(1)
    return (x < x1) | (x > x2) | (y < y1) | (y > y2)


class _HardestQueriesLoss(Function):
    """Loss and gradient, computed together and block by block.

    No tensor of pixels x queries is held for longer than a block. ``forward`` computes the gradient, ``backward`` only
    scales it.
    """

    @staticmethod
    def forward(
        ctx,
        pixels: Tensor,
        queries: Tensor,
        own_query: Tensor,
        weights: Tensor,
        boxes: Tensor | None,
        points: Tensor | None,
        margin: float,
        topk: int,
        self_term: bool,
        block_size: int,
    ) -> Tensor:
        total = pixels.new_zeros(())
        needs_grad = any(ctx.needs_input_grad[:2])
        grads: list[Tensor] = [torch.empty_like(pixels), torch.zeros_like(queries)] if needs_grad else []
        num_negatives = min(topk, len(queries) - (not self_term)) - self_term
        for start in range(0, pixels.size(1), block_size):
            block = slice(start, start + block_size)
            lengths = pixels[:, block].square().sum(0, keepdim=True).sqrt_().clamp_(min=_SHORTEST)
            units = pixels[:, block] / lengths
            cosines = (queries @ units).clamp_(-1, 1)
            own_in_block = own_query[None, block]
            positives = cosines.gather(0, own_in_block)
            if boxes is not None:
                assert points is not None  # hardest_queries_loss refuses boxes without points
                outside = _outside(boxes, points[:, block])
                cosines[-len(boxes) :].masked_fill_(outside, 0)
            cosines.scatter_(0, own_in_block, -torch.inf)
            # topk is most of the work, so it runs only for pixels with a query that exceeds the margin.
            is_hard = (cosines.amax(0) > positives[0] - margin).nonzero().squeeze(1)
            hardest = cosines.new_full((num_negatives, own_in_block.size(1)), -torch.inf)
            indices = torch.zeros_like(hardest, dtype=torch.long)
            hardest[:, is_hard], indices[:, is_hard] = cosines.index_select(1, is_hard).topk(num_negatives, dim=0)
            if self_term:
                # A distance of 0 to the negative is a cosine of 1, which no cosine exceeds: this term is always kept.
                hardest = torch.cat([hardest, torch.ones_like(positives)])
                indices = torch.cat([indices, own_in_block])
            violations = (hardest - positives + margin).clamp_(min=0)
            arguments = 1 - violations / (2 + margin)
            total -= (arguments.clamp(min=_LOG_FLOOR).log().sum(0) * weights[block]).sum()
            if needs_grad:
                slopes = weights[block] / ((2 + margin) * arguments)
                slopes.masked_fill_((violations <= 0) | (arguments <= _LOG_FLOOR), 0)
                grad_cosines = torch.zeros_like(cosines).scatter_(0, indices, slopes)
                if boxes is not None:
                    grad_cosines[-len(boxes) :].masked_fill_(outside, 0)
                grad_cosines.scatter_(0, own_in_block, -slopes.sum(0, keepdim=True))
                grad_units = queries.T @ grad_cosines
                along = (grad_units * units).sum(0, keepdim=True)
                grads[0][:, block] = grad_units.addcmul_(units, along, value=-1).div_(lengths)
                grads[1].addmm_(grad_cosines, units.T)
        ctx.save_for_backward(*grads)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        wanted = zip(ctx.saved_tensors, ctx.needs_input_grad[:2], strict=True)
        return *(grad_output * grad if is_wanted else None for grad, is_wanted in wanted), *[None] * 8


def hardest_queries_loss(
    pixels: Tensor,
    queries: Tensor,
    own_query: Tensor,
    weights: Tensor,
    boxes: Tensor | None = None,
    points: Tensor | None = None,
    margin: float = 0.15,
    topk: int = 5,
    self_term: bool = True,
    block_size: int | None = None,
) -> Tensor:
    """Weighted sum over the pixels of the losses of their hardest queries.

    With D = 1 - cosine, c the pixel's own query and k any query,

        l_k = max(D_c - D_k + margin, 0),    L_k = -log(1 - l_k / (2 + margin)),

    and a pixel's loss is the sum of its ``topk`` largest L_k. For k = c the equation sets D_k to 0: that term pulls the
    pixel to its query and is never 0.

    The cosines are clamped to [-1, 1] and the logarithm's argument to at least 1e-6, where its gradient is 0.

    Source: CIAE, equations 6 to 9, https://arxiv.org/abs/2009.13342; taking the largest for each pixel separately is
    this project's reading.

    Args:
        pixels: Embeddings of any length, of shape (D, P).
        queries: Unit vectors of shape (M, D).
        own_query: Index of each pixel's own query, int64 of shape (P,); pixels where it is negative are ignored.
        weights: Weight of each pixel, of shape (P,).
        boxes: Boxes x1, y1, x2, y2 of the last B queries, of shape (B, 4), B <= M. A pixel outside of a query's box has
            cosine 0 to that query, unless it is the pixel's own query. None: no filtering.
        points: Coordinates x, y of the pixels, of shape (2, P), in the units of ``boxes``; needed with ``boxes``.
        margin: See above.
        topk: Largest number of queries that count for a pixel, its own query included.
        self_term: Whether k = c is among the queries.
        block_size: Number of pixels that are processed at once; affects memory and speed only. None: 2 ** 14 on the
            CPU, 2 ** 20 elsewhere.

    Returns:
        Scalar, differentiable once, in ``pixels`` and ``queries``. It is 0 if there is no query.

    Raises:
        ValueError: If ``topk`` or ``block_size`` is below 1, or ``boxes`` are given without ``points``.
    """
    if block_size is None:
        block_size = 2**14 if pixels.device.type == 'cpu' else 2**20
    if topk < 1 or block_size < 1:
        raise ValueError(f'topk {topk} and block_size {block_size} must be at least 1')
    if boxes is not None and not len(boxes):
        boxes = None
    if boxes is not None and points is None:
        raise ValueError('boxes need points, the coordinates of the pixels')
    if not len(queries):
        return pixels.sum() * 0
    weights = weights.masked_fill(own_query < 0, 0)
    return _HardestQueriesLoss.apply(
        pixels, queries, own_query.clamp(min=0), weights, boxes, points, margin, topk, self_term, block_size
    )
