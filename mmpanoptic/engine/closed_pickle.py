"""Unpickling by a closed list: what a checkpoint may hold, and nothing that can run code.

A pickle is a program: it names functions and classes, calls them and sets their attributes. Here each name of a short
list stands for a stand-in of ours that only keeps data, whatever it is given, and whose own attributes cannot be set;
every other name is refused. When all is read, :func:`to_plain` turns what was kept into tensors, arrays and plain
values. So nothing on the list can reach anything else, which torch's ``weights_only`` with mmengine's additions
(``getattr``) cannot promise.
"""

import math
import pickle
import re
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from torch import Tensor

_NUMERIC = re.compile(r'[biufc]\d{1,2}')
_LEAVES = (str, bytes, int, float, complex, bool, type(None), torch.Size, torch.dtype, torch.device)
_DTYPES = {name: value for name, value in vars(torch).items() if isinstance(value, torch.dtype)}
#: What the elements of a storage are, by the storage's class.
STORAGES = {
    'BFloat16Storage': torch.bfloat16,
    'BoolStorage': torch.bool,
    'ByteStorage': torch.uint8,
    'CharStorage': torch.int8,
    'ComplexDoubleStorage': torch.complex128,
    'ComplexFloatStorage': torch.complex64,
    'DoubleStorage': torch.float64,
    'FloatStorage': torch.float32,
    'HalfStorage': torch.float16,
    'IntStorage': torch.int32,
    'LongStorage': torch.int64,
    'ShortStorage': torch.int16,
    'UntypedStorage': torch.uint8,
}


class RefusedError(pickle.UnpicklingError):
    """Something in a checkpoint is not on the list; the message says what."""


class Kept:
    """What a stand-in keeps of a call: its name, the arguments, and the state that was set afterwards."""

    __slots__ = ('args', 'name', 'state')

    def __init__(self, name: str, args: tuple) -> None:
        self.name, self.args, self.state = name, args, None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class StandIn:
    """Stands for a name of the list; calling it keeps the arguments, and nothing of it can be set."""

    __slots__ = ('_name',)

    def __init__(self, name: str) -> None:
        object.__setattr__(self, '_name', name)

    def __call__(self, *args: Any) -> Kept:
        return Kept(self._name, args)

    def __setattr__(self, name: str, value: Any) -> None:
        raise RefusedError(f'an attribute of {self._name}')

    def __setstate__(self, state: Any) -> None:
        raise RefusedError(f'a state of {self._name}')


class _History:
    """What mmengine's ``HistoryBuffer`` keeps of a logged value; pickle makes it by its class."""

    __slots__ = ('state',)

    def __setstate__(self, state: Any) -> None:
        self.state = state


class Storage:
    """The numbers that tensors show parts of.

    Attributes:
        dtype: What they are.
        data: They themselves, of shape (n,); None until they are read.
    """

    __slots__ = ('data', 'dtype')

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.data: Tensor | None = None

    def __setstate__(self, state: Any) -> None:
        raise RefusedError('a state of a storage')


def _names(modules: str, names: str) -> dict[tuple[str, str], StandIn]:
    return {(module, name): StandIn(name) for module in modules.split() for name in names.split()}


#: The list.
ALLOWED: dict[tuple[str, str], Any] = {
    **_names('collections', 'Counter'),
    **_names('builtins __builtin__', 'bytes bytearray getattr'),
    **_names('_codecs', 'encode'),
    **_names('numpy', 'dtype ndarray'),
    **_names('numpy._core.multiarray numpy.core.multiarray', '_reconstruct scalar'),
    **_names('numpy._core.numeric numpy.core.numeric', '_frombuffer'),
    **_names('torch', 'Size device'),
    **_names('torch._utils', '_rebuild_tensor _rebuild_tensor_v2 _rebuild_tensor_v3'),
    **_names('torch._utils', '_rebuild_parameter _rebuild_parameter_with_state'),
    **{('torch', name): StandIn(name) for name in STORAGES},
    ('torch.storage', 'UntypedStorage'): StandIn('UntypedStorage'),
    ('mmengine.logging.history_buffer', 'HistoryBuffer'): _History,
    # Containers, which hold what they are given; their attributes are left behind by to_plain.
    ('collections', 'OrderedDict'): OrderedDict,
    **{(module, kind.__name__): kind for module in ('builtins', '__builtin__') for kind in (set, frozenset, complex)},
}


class Unpickler(pickle.Unpickler):
    """An unpickler that knows the names of :data:`ALLOWED`, torch's types of numbers, and no others.

    Args:
        file: What to read from.
        storage_of: Gives the storage of a persistent id, (class, key, location, number of elements, ...).
    """

    def __init__(self, file: Any, storage_of: Callable[[tuple], Storage]) -> None:
        super().__init__(file, encoding='utf-8')
        self._storage_of = storage_of

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a name in a pickle.

        Raises:
            RefusedError: If the name is not on the list.
        """
        if (module, name) in ALLOWED:
            return ALLOWED[module, name]
        if module == 'torch' and name in _DTYPES:
            return _DTYPES[name]
        raise RefusedError(f'{module}.{name}')

    def persistent_load(self, pid: Any) -> Storage:
        """The storage of a tensor.

        Raises:
            RefusedError: If it is anything else, such as the source of a module.
        """
        kind, *rest = pid if isinstance(pid, tuple) and len(pid) >= 5 else (None,)
        if kind not in ('storage', b'storage') or not isinstance(rest[0], StandIn):
            raise RefusedError('a persistent id that is no storage')
        return self._storage_of(tuple(rest))


def dtype_of(storage_class: StandIn) -> torch.dtype:
    """What the elements of a storage are.

    Raises:
        RefusedError: If it is no class of storages.
    """
    if storage_class._name not in STORAGES:
        raise RefusedError(f'a storage of {storage_class._name}')
    return STORAGES[storage_class._name]


def to_plain(value: Any, done: dict[int, Any] | None = None) -> Any:
    """What was read, with tensors, arrays and plain values in the place of what stand-ins kept.

    Containers are made anew, so that nothing is left that was set on one of them from outside.

    Raises:
        RefusedError: If anything else is in it.
    """
    done = {} if done is None else done
    if type(value) in _LEAVES:
        return value
    if id(value) not in done:
        done[id(value)] = None  # of a list that holds itself
        done[id(value)] = _made_anew(value, done)
    return done[id(value)]


def _made_anew(value: Any, done: dict[int, Any]) -> Any:
    if type(value) is Kept:
        return _MAKERS.get(value.name, _refuse)(value, done)
    if type(value) is _History:
        return _history(value, done)
    if type(value) in (dict, OrderedDict):
        plain = type(value)((to_plain(key, done), to_plain(item, done)) for key, item in value.items())
        metadata = getattr(value, '__dict__', {}).get('_metadata')  # versions of layers, in a state_dict of torch
        if metadata is not None:
            plain._metadata = to_plain(metadata, done)
        return plain
    if type(value) in (list, tuple, set, frozenset):
        return type(value)(to_plain(item, done) for item in value)
    if type(value) is bytearray:
        return bytes(value)
    raise RefusedError(f'a {type(value).__module__}.{type(value).__qualname__}')


def _refuse(kept: Kept, done: dict[int, Any]) -> Any:
    raise RefusedError(f'a call of {kept.name}')


def _nothing(kept: Kept, done: dict[int, Any]) -> None:
    """Methods that mmengine's HistoryBuffer names by ``getattr``; it has them anyway."""


def _tensor(kept: Kept, done: dict[int, Any]) -> Tensor:
    storage, offset, size, stride, *rest = kept.args
    size, stride = to_plain(size, done), to_plain(stride, done)
    if type(storage) is not Storage or storage.data is None:
        raise RefusedError('a tensor without a storage')
    data = storage.data
    if kept.name == '_rebuild_tensor_v3':  # its dtype, which has no class of storages, follows the hooks
        data = data.view(rest[2])
    if math.prod(size) > data.numel():
        raise RefusedError(f'a tensor of shape {tuple(size)} with {data.numel()} numbers')
    return torch.as_strided(data, tuple(size), tuple(stride), offset)


def _parameter(kept: Kept, done: dict[int, Any]) -> Tensor:
    data = to_plain(kept.args[0], done)
    if type(data) is not Tensor:
        raise RefusedError('a parameter without a tensor')
    return data


def _bytes(kept: Kept, done: dict[int, Any]) -> bytes:
    """Bytes as they are written: by Python 2's protocol as text in Latin-1, or by their class when there are none."""
    text, encoding = (*kept.args, 'latin1', 'latin1')[:2] if kept.args else ('', 'latin1')
    if not isinstance(text, str) or encoding != 'latin1':
        raise RefusedError(f'{kept.name} of {type(text).__name__} with {encoding!r}')
    return text.encode('latin1')


def _dtype(kept: Kept, done: dict[int, Any]) -> np.dtype:
    name, (_, order, *rest) = kept.args[0], kept.state or (3, '=')
    if not isinstance(name, str) or not _NUMERIC.fullmatch(name):
        raise RefusedError(f'numpy.dtype({name!r})')
    if order not in ('<', '>', '|', '=') or any(part not in (None, -1, 0) for part in rest):
        raise RefusedError('a structured numpy.dtype')
    return np.dtype(order + name)


def _array(kept: Kept, done: dict[int, Any]) -> np.ndarray:
    """An array, as ``_reconstruct`` with a state or, from protocol 5 on, ``_frombuffer`` give it."""
    if kept.name == '_frombuffer':
        data, dtype, shape, order = kept.args
        is_fortran = order == 'F'
    elif kept.state is None or not isinstance(kept.args[0], StandIn) or kept.args[0]._name != 'ndarray':
        raise RefusedError('a numpy array that is none')
    else:
        _, shape, dtype, is_fortran, data = kept.state
    data, dtype, shape = to_plain(data, done), to_plain(dtype, done), to_plain(shape, done)
    if not isinstance(dtype, np.dtype) or not isinstance(data, bytes):
        raise RefusedError('a numpy.ndarray of objects')
    flat = np.frombuffer(data, dtype)
    return flat.astype(dtype.newbyteorder('=')).reshape(shape, order='F' if is_fortran else 'C')


def _number(kept: Kept, done: dict[int, Any]) -> np.generic:
    dtype, data = (to_plain(arg, done) for arg in kept.args)
    if not isinstance(dtype, np.dtype) or not isinstance(data, bytes):
        raise RefusedError('a numpy scalar of an object')
    return np.frombuffer(data, dtype, count=1)[0]


def _history(kept: _History, done: dict[int, Any]) -> HistoryBuffer:
    log, count = (to_plain(kept.state[name], done) for name in ('_log_history', '_count_history'))
    buffer = HistoryBuffer(max_length=int(kept.state['max_length']))
    if not (isinstance(log, np.ndarray) and isinstance(count, np.ndarray)):
        raise RefusedError('a HistoryBuffer of something else than numbers')
    buffer._log_history, buffer._count_history = log, count
    return buffer


_MAKERS: dict[str, Callable[[Kept, dict[int, Any]], Any]] = {
    'Counter': lambda kept, done: Counter({int(k): int(v) for k, v in to_plain(dict(*kept.args), done).items()}),
    'Size': lambda kept, done: torch.Size(int(side) for side in to_plain(kept.args[0], done)),
    'device': lambda kept, done: torch.device(*(to_plain(arg, done) for arg in kept.args)),
    'getattr': _nothing,
    'dtype': _dtype,
    'scalar': _number,
    **dict.fromkeys(('_reconstruct', '_frombuffer'), _array),
    **dict.fromkeys(('encode', 'bytes', 'bytearray'), _bytes),
    **dict.fromkeys(('_rebuild_tensor', '_rebuild_tensor_v2', '_rebuild_tensor_v3'), _tensor),
    **dict.fromkeys(('_rebuild_parameter', '_rebuild_parameter_with_state'), _parameter),
}
