"""A GPU that is none: tensors on the CPU that say they are on 'cuda', and a count of what a CPU would wait for.

Code that looks at ``tensor.device`` takes its way for GPUs. What a GPU refuses is refused: tensors of both devices in
one operation, numpy on the GPU's memory. Values are those of the CPU's kernels.
"""

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map

CUDA, CPU = torch.device('cuda', 0), torch.device('cpu')
# Operations of which the size of the result, or the result itself, is needed on the CPU: it waits for the GPU.
WAITS = (
    *('_local_scalar_dense', 'is_nonzero', 'nonzero', 'masked_select', 'bincount', 'equal'),
    *('_unique', '_unique2', 'unique_dim', 'unique_consecutive', 'unique_dim_consecutive'),
)
GETTERS = {
    Tensor.device.__get__: lambda tensor: CUDA,
    Tensor.is_cuda.__get__: lambda tensor: True,
}
DOWNLOADS = (Tensor.tolist, Tensor.cpu)
REFUSED = (Tensor.numpy, Tensor.__array__)


class OnGPU(Tensor):
    """A tensor on the GPU that is none."""


def to_gpu(data: Any) -> Any:
    """Tensors, data elements or containers of them, moved, without being counted."""
    if isinstance(data, BaseDataElement):
        moved = data.new()
        for key, value in data.items():
            moved.set_field(to_gpu(value), key, dtype=None)
        return moved
    return tree_map(lambda leaf: leaf.as_subclass(OnGPU) if isinstance(leaf, Tensor) else leaf, data)


def from_gpu(tensor: Tensor) -> Tensor:
    """A tensor as one on the CPU, without being counted; it has to be on the GPU."""
    assert isinstance(tensor, OnGPU), 'not on the GPU'
    return _plain(tensor)


def _plain(tensor: Tensor) -> Tensor:
    """The same memory as a plain tensor; ``as_subclass(Tensor)`` is refused by torch 2.4."""
    with torch._C.DisableTorchFunctionSubclass():
        return tensor.view(tensor.shape)


class _Operations(TorchDispatchMode):
    """Counts operations of the GPU, and those that the CPU waits for."""

    def __init__(self, gpu: 'SecondDevice') -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        name = function.overloadpacket.__name__
        if name in WAITS or (name == 'repeat_interleave' and kwargs.get('output_size') is None):
            self.gpu.waits[name] += 1
        elif name.startswith('index') and any(
            isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8)
            for index in (args[1] if len(args) > 1 and isinstance(args[1], (list, tuple)) else ())
        ):
            self.gpu.waits['nonzero'] += 1
        self.gpu.launches += not function.is_view
        return function(*args, **kwargs)


class SecondDevice(TorchFunctionMode):
    """Inside of it, :func:`to_gpu`'s tensors behave as on a GPU.

    Attributes:
        waits: Number of operations on the GPU, by name, after which the CPU needs a value or a size at once.
        uploads, downloads: Number of copies of tensors to the GPU and from it; the CPU waits for the latter.
        downloaded: Number of numbers that were copied from the GPU.
        launches: Number of operations on the GPU that are more than views.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self.uploads = self.downloads = self.downloaded = self.launches = 0

    @property
    def stops(self) -> int:
        """All transfers and waits together."""
        return self.waits.total() + self.uploads + self.downloads

    def __torch_function__(self, function: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = dict(kwargs or {})
        leaves = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        has_gpu = any(isinstance(leaf, OnGPU) for leaf in leaves)
        if has_gpu and function in GETTERS:
            return GETTERS[function](args[0])
        if has_gpu and function in REFUSED:
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")
        if function == Tensor.to:
            return self._move(args[0], *self._target(args, kwargs))
        if function == Tensor.cuda:
            return self._move(args[0], CUDA, {})
        if has_gpu and function in DOWNLOADS:
            self.downloads += 1
            self.downloaded += self._plain(args)[0].numel()
            return function(*self._plain(args))
        if 'device' in kwargs:
            on_gpu = torch.device(kwargs.pop('device') or CPU).type == 'cuda'
            self.uploads += on_gpu and function in (torch.tensor, torch.as_tensor, Tensor.new_tensor)
        else:
            on_gpu = has_gpu
            self.uploads += has_gpu and function == Tensor.new_tensor
        if has_gpu:
            self._check(function, args, leaves)
        with self._counted() if on_gpu else torch._C.DisableTorchFunctionSubclass():
            result = function(*self._plain(args), **self._plain(kwargs))
        return tree_map(self._wrap, result) if on_gpu and function != Tensor.numel else result

    def _counted(self) -> AbstractContextManager:
        return _Operations(self)

    @staticmethod
    def _plain(values: Any) -> Any:
        leaves, spec = tree_flatten(values)
        return spec.unflatten([_plain(leaf) if isinstance(leaf, OnGPU) else leaf for leaf in leaves])

    @staticmethod
    def _wrap(leaf: Any) -> Any:
        return leaf.as_subclass(OnGPU) if type(leaf) is Tensor else leaf

    def _check(self, function: Callable, args: tuple, leaves: list[Tensor]) -> None:
        """Refuse tensors of both devices, as a GPU does; numbers of no dimension and parameters may be anywhere."""
        strangers = [
            leaf for leaf in leaves if not isinstance(leaf, (OnGPU, nn.Parameter)) and leaf.ndim and leaf.numel()
        ]
        if not strangers:
            return
        if function == Tensor.copy_:
            self.uploads += isinstance(args[0], OnGPU)
            self.downloads += not isinstance(args[0], OnGPU)
        elif function in (Tensor.__getitem__, Tensor.__setitem__) and isinstance(args[0], OnGPU):
            self.uploads += len(strangers)  # an index on the CPU is moved
        else:
            raise RuntimeError(f'{function.__name__}: expected all tensors to be on the same device, cuda:0 and cpu')

    def _target(self, args: tuple, kwargs: dict) -> tuple[torch.device | None, dict]:
        """Where ``Tensor.to`` moves, None for nowhere, and what else it changes."""
        _, *rest = args
        if rest and isinstance(rest[0], Tensor):
            return (CUDA if isinstance(rest[0], OnGPU) else CPU), dict(dtype=rest[0].dtype)
        device, dtype, _, memory_format = torch._C._nn._parse_to(*rest, **kwargs)
        return device, dict(dtype=dtype) if dtype else dict(memory_format=memory_format) if memory_format else {}

    def _move(self, tensor: Tensor, device: torch.device | None, change: dict) -> Tensor:
        is_on_gpu = isinstance(tensor, OnGPU)
        goes_on_gpu = is_on_gpu if device is None else device.type == 'cuda'
        self.uploads += goes_on_gpu and not is_on_gpu
        tensor = _plain(tensor) if is_on_gpu else tensor
        if is_on_gpu and not goes_on_gpu:
            self.downloads += 1
            self.downloaded += tensor.numel()
        if change:
            self.launches += is_on_gpu
            tensor = tensor.to(**change)
        return tensor.as_subclass(OnGPU) if goes_on_gpu else tensor
