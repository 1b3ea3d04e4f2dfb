"""Conversion of the data that the stand-ins of :mod:`~.closed_pickle` keep to tensors, arrays and plain values."""

import math
import re
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from torch import Tensor

from .closed_pickle import DamagedError, Kept, KeptHistory, RefusedError, StandIn, Storage

_NUMERIC = re.compile(r'[biufc]\d{1,2}')
_LEAVES = (str, bytes, int, float, complex, bool, type(None), torch.Size, torch.dtype, torch.device)
_BEGUN = object()
_MAX_EXPANDED = 2**27  # elements of a tensor that repeats those of its storage; a copy of it needs the memory


class Memo:
    """Results of conversions, so that each value is converted once.

    Args:
        max_bytes: Largest number of bytes of arrays and texts that may be made. A checkpoint's pickle holds its bytes
            once; a malicious one could make many copies of the same bytes.
    """

    def __init__(self, max_bytes: int) -> None:
        self._made: dict[int, tuple[Any, Any]] = {}
        self._left = max_bytes

    def get(self, value: Any, make: Callable[[Any, 'Memo'], Any]) -> Any:
        """The result of ``make`` for a value; a later call for the same value gives the same result."""
        if id(value) not in self._made:
            self._made[id(value)] = value, _BEGUN  # keeps the value, so that no other value gets its id
            self._made[id(value)] = value, make(value, self)
        made = self._made[id(value)][1]
        if made is _BEGUN:
            raise RefusedError('something that holds itself')
        return made

    def spend(self, size: int) -> None:
        """Count bytes, and refuse more than ``max_bytes``."""
        self._left -= size
        if self._left < 0:
            raise DamagedError('more bytes of arrays than it holds')


def to_plain(value: Any, memo: Memo) -> Any:
    """Convert unpickled content: tensors, arrays and plain values replace the data that stand-ins kept.

    Containers are copied, so that no attribute that was set on them remains.

    Raises:
        RefusedError: If it holds anything else.
        DamagedError: If its parts do not fit together.
    """
    return value if type(value) in _LEAVES else memo.get(value, _made_anew)


def _made_anew(value: Any, memo: Memo) -> Any:
    if type(value) is Kept:
        return _MAKERS.get(value.name, _refuse)(value, memo)
    if type(value) is KeptHistory:
        return _history(value, memo)
    if type(value) in (dict, OrderedDict):
        plain = type(value)((to_plain(key, memo), to_plain(item, memo)) for key, item in dict.items(value))
        metadata = getattr(value, '__dict__', {}).get('_metadata')  # versions of layers, in a state_dict of torch
        if metadata is not None:
            plain._metadata = to_plain(metadata, memo)
        return plain
    if type(value) in (list, tuple, set, frozenset):
        return type(value)(to_plain(item, memo) for item in value)
    if type(value) is bytearray:
        memo.spend(len(value))
        return bytes(value)
    raise RefusedError(f'a {type(value).__module__}.{type(value).__qualname__}')


def _refuse(kept: Kept, memo: Memo) -> Any:
    raise RefusedError(f'a call of {kept.name}')


def _nothing(kept: Kept, memo: Memo) -> None:
    """Drop the methods that mmengine's HistoryBuffer names by ``getattr``; the new buffer has them anyway."""


def _tensor(kept: Kept, memo: Memo) -> Tensor:
    storage, offset, size, stride, *rest = kept.args
    size, stride = to_plain(size, memo), to_plain(stride, memo)
    if type(storage) is not Storage or storage.data is None:
        raise RefusedError('a tensor without a storage')
    data, metadata = storage.data, rest[2:]
    if kept.name == '_rebuild_tensor_v3':  # its dtype, which has no class of storages, follows the hooks
        dtype, *metadata = metadata
        if not isinstance(dtype, torch.dtype):
            raise RefusedError('a tensor of no dtype')
        data = data.view(dtype)
    if math.prod(size) > max(data.numel(), _MAX_EXPANDED):
        raise DamagedError(f'a tensor of shape {tuple(size)} with {data.numel()} numbers')
    tensor = torch.as_strided(data, tuple(size), tuple(stride), offset)
    return _with_bits(tensor, to_plain(metadata[0], memo)) if metadata and metadata[0] else tensor


def _with_bits(tensor: Tensor, bits: Any) -> Tensor:
    """Apply a tensor's marks for lazy conjugation and negation."""
    if not isinstance(bits, dict) or not bits.keys() <= {'conj', 'neg'}:
        raise RefusedError('a tensor with other metadata than conj and neg')
    if bits.get('conj'):
        tensor = tensor.conj().resolve_conj()
    return -tensor if bits.get('neg') else tensor


def _parameter(kept: Kept, memo: Memo) -> Tensor:
    data = to_plain(kept.args[0], memo)
    if type(data) is not Tensor:
        raise RefusedError('a parameter without a tensor')
    return data


def _bytes(kept: Kept, memo: Memo) -> bytes:
    """Bytes from protocol 2, which writes them as text in Latin-1, and empty ones as a call of their class."""
    text, encoding = (*kept.args, 'latin1', 'latin1')[:2] if kept.args else ('', 'latin1')
    if not isinstance(text, str) or encoding != 'latin1':
        raise RefusedError(f'{kept.name} of {type(text).__name__} with {encoding!r}')
    memo.spend(len(text))
    return text.encode('latin1')


def _dtype(kept: Kept, memo: Memo) -> np.dtype:
    name, (_, order, *rest) = kept.args[0], kept.state or (3, '=')
    if not isinstance(name, str) or not _NUMERIC.fullmatch(name):
        raise RefusedError(f'numpy.dtype({name!r})')
    if order not in ('<', '>', '|', '=') or any(part not in (None, -1, 0) for part in rest):
        raise RefusedError('a structured numpy.dtype')
    return np.dtype(order + name)


def _array(kept: Kept, memo: Memo) -> np.ndarray:
    """An array from ``_reconstruct`` with a state or, since protocol 5, from ``_frombuffer``."""
    if kept.name == '_frombuffer':
        data, dtype, shape, order = kept.args
        is_fortran = order == 'F'
    elif kept.state is None or not isinstance(kept.args[0], StandIn) or kept.args[0]._name != 'ndarray':
        raise RefusedError('a numpy array that is none')
    else:
        _, shape, dtype, is_fortran, data = kept.state
    data, dtype, shape = to_plain(data, memo), to_plain(dtype, memo), to_plain(shape, memo)
    if not isinstance(dtype, np.dtype) or not isinstance(data, bytes):
        raise RefusedError('a numpy.ndarray of objects')
    memo.spend(len(data))
    flat = np.frombuffer(data, dtype)
    return flat.astype(dtype.newbyteorder('=')).reshape(shape, order='F' if is_fortran else 'C')


def _number(kept: Kept, memo: Memo) -> np.generic:
    dtype, data = (to_plain(arg, memo) for arg in kept.args)
    if not isinstance(dtype, np.dtype) or not isinstance(data, bytes):
        raise RefusedError('a numpy scalar of an object')
    return np.frombuffer(data, dtype, count=1)[0]


def _history(kept: KeptHistory, memo: Memo) -> HistoryBuffer:
    log, count = (to_plain(kept.state[name], memo) for name in ('_log_history', '_count_history'))
    buffer = HistoryBuffer(max_length=int(kept.state['max_length']))
    if not (isinstance(log, np.ndarray) and isinstance(count, np.ndarray)):
        raise RefusedError('a HistoryBuffer of something else than numbers')
    buffer._log_history, buffer._count_history = log, count
    return buffer


_MAKERS: dict[str, Callable[[Kept, Memo], Any]] = {
    'Counter': lambda kept, memo: Counter({int(k): int(v) for k, v in dict(*kept.args).items()}),
    'Size': lambda kept, memo: torch.Size(int(side) for side in to_plain(kept.args[0], memo)),
    'device': lambda kept, memo: torch.device(*(to_plain(arg, memo) for arg in kept.args)),
    'getattr': _nothing,
    'dtype': _dtype,
    'scalar': _number,
    **dict.fromkeys(('_reconstruct', '_frombuffer'), _array),
    **dict.fromkeys(('encode', 'bytes', 'bytearray'), _bytes),
    **dict.fromkeys(('_rebuild_tensor', '_rebuild_tensor_v2', '_rebuild_tensor_v3'), _tensor),
    **dict.fromkeys(('_rebuild_parameter', '_rebuild_parameter_with_state'), _parameter),
}
