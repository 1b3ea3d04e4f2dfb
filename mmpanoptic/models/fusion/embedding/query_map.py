"""Maps of which cells, not pixels, say what is in them, and where the pixels of an image read a coarser map."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Axis:
    """Where the pixels of one axis read the network's map.

    Attributes:
        cell: The cell of each pixel, int64 of shape (size,), not falling: it lies between centres ``cell`` and
            ``cell + 1``.
        weight: Weight of the second of the two centres, float32 of shape (size,).
        start: First pixel of each cell, and ``size``, int64 of shape (cells + 1,); a cell may be without any.
    """

    cell: Tensor
    weight: Tensor
    start: Tensor

    @classmethod
    def of(cls, size: int, scale: float, stride: int, centres: int, device: torch.device | str = 'cpu') -> 'Axis':
        """Axis of ``size`` pixels over a map of ``centres`` centres.

        Args:
            size: Number of pixels.
            scale: Pixels of the network's input for one of these.
            stride: Pixels of the network's input for a step between centres.
            centres: Number of centres.
            device: Where the tensors go.
        """
        position = ((torch.arange(size, dtype=torch.float64) + 0.5) * scale / stride - 0.5).clamp(0, centres - 1)
        cell = position.long().clamp(max=max(centres - 2, 0))
        cells = torch.arange(int(cell[-1]) + 2) if size else torch.zeros(1, dtype=torch.int64)
        start = torch.searchsorted(cell, cells)
        return cls(cell.to(device), (position - cell).float().to(device), start.to(device))


@dataclass(frozen=True)
class QueryMap:
    """The best query of each pixel of an image of shape (H, W).

    Attributes:
        cells: Query of all pixels of a cell, int64 of shape (cells down, cells across).
        listed: Indices into the flattened cells, int64: those of which the pixels are listed one by one instead.
        pixels: Indices into the flattened image, int64 of shape (P,): the pixels of these cells.
        queries: Query of each of them, int64 of shape (P,).
        rows, columns: Of the image.
        num_queries: Number of queries, and the value of a pixel that is in no query's window.
    """

    cells: Tensor
    listed: Tensor
    pixels: Tensor
    queries: Tensor
    rows: Axis
    columns: Axis
    num_queries: int

    @classmethod
    def of_image(cls, queries: Tensor, num_queries: int) -> 'QueryMap':
        """Map of which the query of each pixel is known, given as integers of shape (H, W)."""
        rows, columns = (Axis.of(size, 1, 1, size + 1, queries.device) for size in queries.shape)
        none = queries.new_zeros(0)
        return cls(queries, none, none, none, rows, columns, num_queries)

    def counts(self) -> Tensor:
        """Number of pixels of each query, int64 of shape (num_queries + 1,), the last one for those without."""
        sizes = (self.rows.start.diff()[:, None] * self.columns.start.diff()).double().flatten()
        sizes[self.listed] = 0
        counts = torch.bincount(self.cells.flatten(), sizes, minlength=self.num_queries + 1).long()
        return counts + torch.bincount(self.queries, minlength=self.num_queries + 1)

    def render(self, values: Tensor) -> Tensor:
        """Image of shape (H, W) of ``values``, of shape (num_queries + 1,), at the queries."""
        columns = values[self.cells].index_select(1, self.columns.cell)
        image = columns.index_select(0, self.rows.cell)
        image.view(-1)[self.pixels] = values[self.queries]
        return image
