"""Unpickling by a closed list: what a checkpoint may hold, and nothing that can run code.

A pickle is a program: it names functions and classes, and calls them. Here each name of a short list stands for a
stand-in of ours that only keeps data, whatever it is given; every other name is refused. When all is read,
:func:`to_plain` turns the stand-ins into tensors, arrays and plain values. So nothing on the list can reach anything
else, which torch's ``weights_only`` with mmengine's additions (``getattr``) cannot promise.

The module has the interface that ``torch.load`` expects of its ``pickle_module``.
"""

import math
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from torch import Tensor

_NUMERIC = re.compile(r'[biufc]\d{1,2}')
_LEAVES = (str, bytes, int, float, complex, bool, type(None), slice, torch.Size, torch.dtype, torch.device)


class RefusedError(pickle.UnpicklingError):
    """A checkpoint holds something that is not on the list; the message says what."""


class _Dtype:
    """A numeric type of numpy, in either byte order."""

    def __init__(self, name: str, *_: Any) -> None:
        if not isinstance(name, str) or not _NUMERIC.fullmatch(name):
            raise RefusedError(f'numpy.dtype({name!r})')
        self.name, self.order = name, '|'

    def __setstate__(self, state: tuple) -> None:
        _, order, *rest = state
        if order not in ('<', '>', '|', '=') or any(value not in (None, -1, 0) for value in rest):
            raise RefusedError('a structured numpy.dtype')
        self.order = order

    def to_numpy(self) -> np.dtype:
        return np.dtype(self.order + self.name)


class _Array:
    """A numeric array of numpy."""

    def __init__(self, kind: Any = None, *_: Any) -> None:
        if kind is not _Array:
            raise RefusedError(f'a numpy array that is to be {kind!r}')
        self.array = np.zeros(0)

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, is_fortran, data = state
        if not isinstance(dtype, _Dtype) or not isinstance(data, bytes):
            raise RefusedError('a numpy.ndarray of objects')
        flat = np.frombuffer(data, dtype.to_numpy())
        flat = flat.astype(flat.dtype.newbyteorder('='))
        if math.prod(shape) != flat.size:
            raise RefusedError(f'a numpy.ndarray of shape {shape} with {flat.size} values')
        self.array = flat.reshape(shape, order='F' if is_fortran else 'C')


class _History:
    """What mmengine's ``HistoryBuffer`` keeps of a logged value."""

    def __setstate__(self, state: dict) -> None:
        self.log, self.count = state['_log_history'], state['_count_history']
        self.max_length = state['max_length']

    def to_buffer(self) -> HistoryBuffer:
        if not (isinstance(self.log, _Array) and isinstance(self.count, _Array) and type(self.max_length) is int):
            raise RefusedError('a HistoryBuffer of something else than numbers')
        buffer = HistoryBuffer(max_length=self.max_length)
        buffer._log_history, buffer._count_history = self.log.array, self.count.array
        return buffer


def _number(dtype: _Dtype, data: bytes) -> np.generic:
    """A scalar of numpy."""
    if not isinstance(dtype, _Dtype) or not isinstance(data, bytes):
        raise RefusedError('a numpy scalar of an object')
    return np.frombuffer(data, dtype.to_numpy(), count=1)[0]


def _bytes(text: str, encoding: str = 'latin1') -> bytes:
    """Bytes as Python 2's protocol writes them."""
    if encoding != 'latin1' or not isinstance(text, str):
        raise RefusedError(f'_codecs.encode with {encoding!r}')
    return text.encode('latin1')


def _tensor(storage: Any, offset: int, size: tuple, stride: tuple, *_: Any) -> Tensor:
    """A tensor, without the hooks and flags that may follow."""
    if not isinstance(storage, torch.storage.TypedStorage):
        raise RefusedError('a tensor without a storage')
    return torch._utils._rebuild_tensor(storage, offset, size, stride)


def _parameter(data: Tensor, *_: Any) -> Tensor:
    """A parameter, as a tensor."""
    if type(data) is not Tensor:
        raise RefusedError('a parameter without a tensor')
    return data


def _nothing(*_: Any) -> None:
    """Methods that mmengine's HistoryBuffer names by ``getattr``; it has them anyway."""


def _device(kind: str, index: int | None = None) -> torch.device:
    return torch.device(str(kind)) if index is None else torch.device(str(kind), int(index))


def _size(values: tuple) -> torch.Size:
    return torch.Size(int(value) for value in values)


#: The list. What stands on the right takes data and keeps it; none of it calls, imports or looks up anything.
ALLOWED: dict[tuple[str, str], Callable] = {
    ('collections', 'OrderedDict'): OrderedDict,
    ('torch._utils', '_rebuild_tensor_v2'): _tensor,
    ('torch._utils', '_rebuild_tensor'): _tensor,
    ('torch._utils', '_rebuild_parameter'): _parameter,
    ('torch', 'Size'): _size,
    ('torch', 'device'): _device,
    ('numpy', 'dtype'): _Dtype,
    ('numpy', 'ndarray'): _Array,
    ('numpy._core.multiarray', '_reconstruct'): _Array,
    ('numpy.core.multiarray', '_reconstruct'): _Array,
    ('numpy._core.multiarray', 'scalar'): _number,
    ('numpy.core.multiarray', 'scalar'): _number,
    ('_codecs', 'encode'): _bytes,
    ('mmengine.logging.history_buffer', 'HistoryBuffer'): _History,
    **{(module, 'getattr'): _nothing for module in ('builtins', '__builtin__')},
    **{(module, 'set'): set for module in ('builtins', '__builtin__')},
    **{(module, 'frozenset'): frozenset for module in ('builtins', '__builtin__')},
    **{(module, 'complex'): complex for module in ('builtins', '__builtin__')},
    **{(module, 'slice'): slice for module in ('builtins', '__builtin__')},
}


class Unpickler(pickle.Unpickler):
    """An unpickler that knows the names of :data:`ALLOWED`, torch's types of numbers, and no others."""

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a name in a pickle.

        Raises:
            RefusedError: If the name is not on the list.
        """
        if (module, name) in ALLOWED:
            return ALLOWED[module, name]
        if module == 'torch' and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        raise RefusedError(f'{module}.{name}')


def load(file: Any, **kwargs: Any) -> Any:
    """Unpickle a file, as ``pickle.load`` does; for files of torch before 1.6."""
    return Unpickler(file, **kwargs).load()


def to_plain(value: Any, done: dict[int, Any] | None = None) -> Any:
    """What was read, with tensors, arrays and plain values in the place of stand-ins.

    Containers are made anew, so that nothing is left that was set on one of them from outside.

    Raises:
        RefusedError: If anything else is in it.
    """
    done = {} if done is None else done
    if type(value) in _LEAVES or isinstance(value, (np.number, np.bool_)):
        return value
    if id(value) not in done:
        done[id(value)] = _made_anew(value, done)
    return done[id(value)]


def _made_anew(value: Any, done: dict[int, Any]) -> Any:
    if type(value) is Tensor:
        return value.detach()
    if isinstance(value, _Array):
        return value.array
    if isinstance(value, _History):
        return value.to_buffer()
    if type(value) in (dict, OrderedDict):
        plain = type(value)((to_plain(key, done), to_plain(item, done)) for key, item in value.items())
        metadata = getattr(value, '__dict__', {}).get('_metadata')  # versions of layers, in a state_dict of torch
        if metadata is not None:
            plain._metadata = to_plain(metadata, done)
        return plain
    if type(value) in (list, tuple, set, frozenset):
        return type(value)(to_plain(item, done) for item in value)
    raise RefusedError(f'a {type(value).__module__}.{type(value).__qualname__}')
