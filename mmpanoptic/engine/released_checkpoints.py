"""Shared functions of the converters of other projects' checkpoints."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmpanoptic.utils import UserError, WriteError, require_folder, sole_writer, whole_file


def check_tensors(weights: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], source: str) -> None:
    """Refuse weights that differ from the expected names and shapes.

    Args:
        weights: Tensors by name.
        shapes: The expected shapes by name.
        source: What to call ``weights`` in an error.

    Raises:
        UserError: If a tensor is missing or unknown, has another shape, or is no tensor; up to five of each are named.
    """
    known = [name for name in shapes if name in weights]
    misshapen = [
        f'{name} ({_shape(weights[name])} instead of {"x".join(map(str, shapes[name]))})'
        for name in known
        if not isinstance(weights[name], Tensor) or tuple(weights[name].shape) != tuple(shapes[name])
    ]
    problems = (
        ('lacks', [name for name in shapes if name not in weights]),
        ('has what no released model has:', [name for name in weights if name not in shapes]),
        ('has another shape of', misshapen),
    )
    if found := [f'{what} {_some(names)}' for what, names in problems if names]:
        raise UserError(f'{source} {"; it ".join(found)}: convert the file as its authors released it')


def save_converted(path: str, source: str, weights: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    """Write a checkpoint for this project's tools, whole or not at all.

    Raises:
        UserError: If it cannot be written, another process writes it, or the file exists (it may be the source).
    """
    require_folder(os.path.dirname(path), 'checkpoint')
    with sole_writer(path, 'checkpoint'):
        if os.path.lexists(path):
            same = os.path.exists(path) and os.path.samefile(path, source)
            what = 'the checkpoint to convert' if same else 'already there'
            raise UserError(f'{path} is {what}: name another file for the result')
        try:
            with whole_file(path) as file:
                torch.save(dict(state_dict=dict(weights), meta=dict(meta, source=Path(source).name)), file)
        except RuntimeError as error:  # torch's error on some full disks
            raise WriteError(path, 'torch could not write all of it: is the disk full?') from error


def _some(names: Iterable[str], limit: int = 5) -> str:
    names = [str(name) for name in names]
    more = f' and {len(names) - limit} more' if len(names) > limit else ''
    return ', '.join(names[:limit]) + more


def _shape(value: Any) -> str:
    return 'x'.join(map(str, value.shape)) or 'a single number' if isinstance(value, Tensor) else type(value).__name__
