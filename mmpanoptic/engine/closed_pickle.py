"""Unpickling by a closed list of names, so that nothing in a checkpoint can run code.

A pickle is a program: it names functions and classes, calls them and sets their attributes. Here each name on a short
list is replaced by a stand-in that only keeps its arguments and whose attributes cannot be set; every other name is
refused. Afterwards :func:`~.plain_values.to_plain` turns the kept data into tensors, arrays and plain values. So no
name on the list gives access to anything else. torch's ``weights_only`` with mmengine's additions (``getattr``) cannot
guarantee that.
"""

import pickle
import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# Types of numbers in models, without quantized types and types of less than a byte.
_NUMBERS = re.compile(r'bool|u?int(8|16|32|64)|b?float(16|32|64)|float8_\w+|complex(32|64|128)')
_DTYPES = {name: getattr(torch, name) for name in dir(torch) if _NUMBERS.fullmatch(name)}
#: Types of elements by the class of the storage.
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
    """A checkpoint holds something that is not on the list; the message says what."""


class DamagedError(ValueError):
    """Parts of a checkpoint do not fit together; the message says which."""


class Kept:
    """A recorded call of a stand-in: its name, the arguments, and the state that was set afterwards."""

    __slots__ = ('args', 'name', 'state')

    def __init__(self, name: str, args: tuple) -> None:
        self.name, self.args = name, args
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class StandIn:
    """Stands for a name on the list. A call records the arguments; attributes cannot be set."""

    __slots__ = ('_name',)
    _name: str

    def __init__(self, name: str) -> None:
        object.__setattr__(self, '_name', name)

    def __call__(self, *args: Any) -> Kept:
        return Kept(self._name, args)

    def __setattr__(self, name: str, value: Any) -> None:
        raise RefusedError(f'an attribute of {self._name}')

    def __setstate__(self, state: Any) -> None:
        raise RefusedError(f'a state of {self._name}')


class KeptHistory:
    """The state of mmengine's ``HistoryBuffer`` of a logged value; pickle creates it by its class."""

    __slots__ = ('state',)

    def __setstate__(self, state: Any) -> None:
        self.state = state


class Storage:
    """The numbers that tensors are views of.

    Attributes:
        dtype: Type of the numbers.
        data: The numbers, of shape (n,); None until they are read.
    """

    __slots__ = ('data', 'dtype')

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.data: Tensor | None = None

    def __setstate__(self, state: Any) -> None:
        raise RefusedError('a state of a storage')


def _names(modules: str, names: str) -> dict[tuple[str, str], StandIn]:
    return {(module, name): StandIn(name) for module in modules.split() for name in names.split()}


#: Stand-ins by (module, name), a closed list.
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
    ('mmengine.logging.history_buffer', 'HistoryBuffer'): KeptHistory,
    # Containers only hold what they are given; to_plain drops their attributes.
    ('collections', 'OrderedDict'): OrderedDict,
    **{(module, kind.__name__): kind for module in ('builtins', '__builtin__') for kind in (set, frozenset, complex)},
}


class Unpickler(pickle.Unpickler):
    """An unpickler that knows only the names in :data:`ALLOWED` and torch's types of numbers.

    Args:
        file: The file to read from.
        storage_of: Gives the storage of a persistent id, (class, key, location, number of elements, ...).
    """

    def __init__(self, file: Any, storage_of: Callable[[tuple], Storage]) -> None:
        super().__init__(file, encoding='utf-8')
        self._storage_of = storage_of

    def find_class(self, module: str, name: str) -> Any:
        """The object that replaces a name in a pickle.

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
            RefusedError: If the id is of anything else, such as the source of a module.
        """
        kind, *rest = pid if isinstance(pid, tuple) and len(pid) >= 5 else (None,)
        if kind not in ('storage', b'storage') or not isinstance(rest[0], StandIn) or not isinstance(rest[1], str):
            raise RefusedError('a persistent id that is no storage')
        return self._storage_of(tuple(rest))


def dtype_of(storage_class: StandIn) -> torch.dtype:
    """Type of the elements of a storage.

    Raises:
        RefusedError: If ``storage_class`` is no class of storages.
    """
    if storage_class._name not in STORAGES:
        raise RefusedError(f'a storage of {storage_class._name}')
    return STORAGES[storage_class._name]
