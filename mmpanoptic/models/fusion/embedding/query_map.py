"""The query of every pixel of an image, and where these pixels read a coarser map."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Axis:
    """Where the pixels of one axis read the network's map.

    Attributes:
        cell: The cell of each pixel, int64 of shape (size,), never descending: the pixel lies between centres ``cell``
            and ``cell + 1``.
        weight: Weight of centre ``cell + 1``, float32 of shape (size,).
        start: First pixel of each cell, then ``size``, int64 of shape (cells + 1,); a cell may have no pixels.
    """

    cell: Tensor
    weight: Tensor
    start: Tensor

    @classmethod
    def of(cls, size: int, scale: float, stride: int, centres: int, device: torch.device | str = 'cpu') -> 'Axis':
        """Axis of ``size`` pixels over a map of ``centres`` centres.

        Args:
            size: Number of pixels.
            scale: Pixels of the network's input per pixel.
            stride: Pixels of the network's input from one centre to the next.
            centres: Number of centres.
            device: Device of the tensors.
        """
        place = torch.arange(size, dtype=torch.float64, device=device) + 0.5
        # Division by a tensor, since a GPU replaces division by a number by multiplication with its reciprocal.
        position = (place * scale / torch.full_like(place, stride) - 0.5).clamp(0, centres - 1)
        cell = position.long().clamp(max=max(centres - 2, 0))
        num_cells = 0
        if size:
            last = min(max((size - 0.5) * scale / stride - 0.5, 0), centres - 1)
            num_cells = min(int(last), max(centres - 2, 0)) + 1
        start = torch.searchsorted(cell, torch.arange(num_cells + 1, device=device))
        return cls(cell, (position - cell).float(), start)


@dataclass(frozen=True)
class QueryMap:
    """The best query of each pixel of an image of shape (H, W).

    Attributes:
        cells: Query of all pixels of a cell, int64 of shape (cells down, cells across).
        listed: Indices into the flattened cells, int64: cells whose pixels are listed one by one instead.
        pixels: Indices into the flattened image, int64 of shape (P,): the pixels of the listed cells.
        queries: Query of each of these pixels, int64 of shape (P,).
        rows, columns: Axes of the image.
        num_queries: Number of queries, and the value of a pixel that is in no query's window.
    """

    cells: Tensor
    listed: Tensor
    pixels: Tensor
    queries: Tensor
    rows: Axis
    columns: Axis
    num_queries: int

    def counts(self) -> Tensor:
        """Number of pixels of each query, int64 of shape (num_queries + 1,); the last is of pixels without a query."""
        sizes = (self.rows.start.diff()[:, None] * self.columns.start.diff()).double().flatten()
        sizes[self.listed] = 0
        counts = torch.bincount(self.cells.flatten(), sizes, minlength=self.num_queries + 1).long()
        return counts + torch.bincount(self.queries, minlength=self.num_queries + 1)

    def render(self, values: Tensor) -> Tensor:
        """Image of shape (H, W) with the value of each pixel's query, from ``values`` of shape (num_queries + 1,)."""
        columns = values[self.cells].index_select(1, self.columns.cell)
        image = columns.index_select(0, self.rows.cell)
        image.view(-1)[self.pixels] = values[self.queries]
        return image

    def indices(self) -> Tensor:
        """Query of each pixel, int64 of shape (H, W)."""
        return self.render(torch.arange(self.num_queries + 1, device=self.device))

    @property
    def device(self) -> torch.device:
        """Device of the map."""
        return self.cells.device


@dataclass(frozen=True)
class PixelMap:
    """The best query of each pixel of an image of shape (H, W), stored pixel by pixel.

    Attributes:
        queries: Query of each pixel, int64 of shape (H, W).
        num_queries: Number of queries, and the value of a pixel that is in no query's window.
    """

    queries: Tensor
    num_queries: int

    def counts(self) -> Tensor:
        """See :meth:`QueryMap.counts`; does not wait for a GPU."""
        queries = self.queries.flatten()
        if self.device.type == 'cpu':
            return torch.bincount(queries, minlength=self.num_queries + 1)
        return queries.new_zeros(self.num_queries + 1).scatter_add_(0, queries, torch.ones_like(queries))

    def render(self, values: Tensor) -> Tensor:
        """See :meth:`QueryMap.render`."""
        return values[self.queries]

    def indices(self) -> Tensor:
        """Query of each pixel, int64 of shape (H, W)."""
        return self.queries

    def cpu(self) -> 'PixelMap':
        """The same on the CPU, in one transfer."""
        queries = self.queries if self.device.type == 'cpu' else self.queries.int().cpu().long()
        return PixelMap(queries, self.num_queries)

    @property
    def device(self) -> torch.device:
        """Device of the map."""
        return self.queries.device
