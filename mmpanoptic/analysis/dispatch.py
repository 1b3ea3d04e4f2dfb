"""Count the operators that torch dispatches, and those that make the CPU wait for a GPU."""

from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

#: Operators whose result is a Python value or has a size that depends on values: the CPU waits for the device.
WAITS = frozenset(
    f'aten::{name}'
    for name in (
        '_local_scalar_dense',
        '_unique2',
        'bincount',
        'equal',
        'is_nonzero',
        'masked_select',
        'nonzero',
        'repeat_interleave.Tensor',
        'unique_consecutive',
        'unique_dim',
    )
)
_INDEXING = frozenset(
    f'aten::{name}' for name in ('index.Tensor', 'index_put', 'index_put_', '_index_put_impl_', '_unsafe_index.Tensor')
)
_FREE = frozenset(('aten::detach', 'aten::_unsafe_view', 'aten::alias'))
_CASTS = frozenset(('aten::_to_copy', 'aten::copy_'))


class DispatchCounter(TorchDispatchMode):
    """Context manager that counts dispatched operators below autograd and autocast, so that their casts count as well.

    Extensions that do not register with the dispatcher, such as most of mmcv's operators, are not counted.

    Attributes:
        operators: Number of calls by the name of the operator (``aten::add.Tensor``).
        views: Calls that return a view of their argument. They cost Python time but launch no kernel.
        waits: Calls for which the CPU waits for a GPU: ``WAITS``, and indexing with masks, which counts set elements.
        transfers: Copies from one device to another; 0 if everything is on the CPU.
        casts: Copies that change the floating-point type.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operators: Counter[str] = Counter()
        self.views = self.waits = self.transfers = self.casts = 0

    @property
    def launches(self) -> int:
        """Calls that are not views; each launches about one kernel on a GPU."""
        return self.operators.total() - self.views

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Make a call and count it."""
        result = func(*args, **(kwargs or {}))
        name = func.name()
        self.operators[name] += 1
        self.views += func.is_view or name in _FREE
        self.waits += name in WAITS or (name in _INDEXING and _has_mask(args[1]))
        if name in _CASTS:
            # copy_(target, source); _to_copy(source) returns the target
            target, source = (args[0], args[1]) if name == 'aten::copy_' else (result, args[0])
            self.transfers += target.device != source.device
            self.casts += target.dtype != source.dtype and target.is_floating_point() and source.is_floating_point()
        return result


def _has_mask(indices: Any) -> bool:
    return any(isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8) for index in tree_leaves(indices))
