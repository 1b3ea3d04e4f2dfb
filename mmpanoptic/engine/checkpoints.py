"""Checks of checkpoints: all weights of the model, its classes, finite values."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor

from mmpanoptic.utils import UserError


class RequireAllWeights(Hook):
    """Refuse a checkpoint that lacks weights of the model, or that was trained with other classes.

    mmengine only logs missing weights, so that a wrong checkpoint would give a wrong score.

    Args:
        resuming: Whether the checkpoint must also hold the state of the training.
        allow_nan: Whether it may hold values that are not finite.
    """

    priority = 'VERY_LOW'  # after hooks that rewrite the checkpoint

    def __init__(self, resuming: bool = False, allow_nan: bool = False) -> None:
        self.resuming = resuming
        self.allow_nan = allow_nan

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare names and shapes before the weights are copied."""
        path = runner._load_from
        weights, meta = weights_and_meta(checkpoint, path)
        if self.resuming and not {'meta', 'message_hub', 'optimizer', 'param_schedulers'} <= checkpoint.keys():
            raise UserError(f'{path} holds no state of a training to resume: start from its weights by load_from')
        model = runner.model
        while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
            model = model.module
        problem = first_misfit(model, weights)
        if problem:
            raise UserError(f'{path} is not of the model that the config describes: {problem}')
        if not self.allow_nan:
            require_finite(checkpoint if self.resuming else weights, path)
        dataset = (runner.train_dataloader if self.resuming else runner.test_dataloader).dataset
        trained = class_names(meta)
        classes = dataset.metainfo.get('classes', ())
        other = next((i for i, names in enumerate(zip(trained, classes, strict=False)) if names[0] != names[1]), None)
        if len(trained) == len(classes) and other is not None:  # with another number, the heads do not fit
            raise UserError(
                f'{path} was trained with class {other} being {trained[other]!r}, which is {classes[other]!r} in the '
                'dataset of the config: list the same categories in the same order'
            )


def weights_and_meta(checkpoint: Any, path: str) -> tuple[dict[str, Tensor], dict]:
    """Weights by name, without the ``module.`` of a wrapper, and the ``meta`` of a checkpoint.

    Args:
        checkpoint: Content of the file: the weights, or a dict with ``state_dict`` and optionally ``meta``.
        path: The file's name for errors.

    Raises:
        UserError: If the content is anything else.
    """
    weights = checkpoint.get('state_dict', checkpoint) if isinstance(checkpoint, dict) else checkpoint
    if not isinstance(weights, dict):
        raise UserError(f'{path} holds a {type(weights).__name__}, not the weights of a model by name')
    for name, value in weights.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise UserError(f'{path} holds a {type(value).__name__} as {name!r}, not the weights of a model by name')
    meta = checkpoint.get('meta') or {}
    if not isinstance(meta, dict) or not isinstance(meta.get('dataset_meta') or {}, dict):
        raise UserError(f'{path} has meta that is no dict, or dataset_meta in it that is none: save it without meta')
    return {name.removeprefix('module.'): value for name, value in weights.items()}, meta


def class_names(meta: dict) -> tuple[str, ...]:
    """Names of the classes that a checkpoint was trained with, in the order of their labels; () if it has none.

    They are in ``dataset_meta.classes``, in files of mmdet 3.0's release candidates in ``dataset_meta.CLASSES``, and in
    files of mmdet 2.x in ``CLASSES``.

    Args:
        meta: See :func:`weights_and_meta`.
    """
    of_dataset = meta.get('dataset_meta') or {}
    for names in (of_dataset.get('classes'), of_dataset.get('CLASSES'), meta.get('CLASSES')):
        if isinstance(names, (list, tuple)) and names and all(isinstance(name, str) for name in names):
            return tuple(names)
    return ()


def require_finite(content: dict, path: str) -> None:
    """Refuse a checkpoint with a NaN or infinite value: it would score 0, or spoil a training that starts from it.

    Raises:
        UserError: Naming the first such tensor.
    """
    name = first_not_finite(content)
    if name is not None:
        raise UserError(
            f'{path}: {name} holds a value that is not finite: take a checkpoint from before that, or load it all the '
            'same with allow_nan=True',
            argument='allow_nan',
        )


def first_misfit(model: torch.nn.Module, weights: Mapping[str, Tensor]) -> str | None:
    """Describe the model's first tensor that is missing or has another shape in the weights; None if all fit.

    Counters of batch norm may be missing.
    """
    for name, expected in model.state_dict().items():
        value = weights.get(name)
        if value is None:
            if not name.endswith('num_batches_tracked'):
                return f'it has no {name}'
        elif value.shape != expected.shape:
            return f'{name} is {tuple(value.shape)} in the checkpoint and {tuple(expected.shape)} in the model'
    return None


def first_not_finite(content: Any) -> str | None:
    """Dotted name of the first tensor in nested dicts, lists and tuples with a NaN or an infinite value, or None."""
    of_device: dict[torch.device, list[tuple[int, str, Tensor]]] = {}
    for place, (name, tensor) in enumerate(_tensors_in(content, '', set())):
        if tensor.is_floating_point() or tensor.is_complex():
            of_device.setdefault(tensor.device, []).append((place, name, tensor))
    wrong: list[tuple[int, str]] = []
    for found in of_device.values():  # one transfer for each device, not for each tensor
        finite = torch.stack([_is_finite(tensor) for *_, tensor in found]).tolist()
        wrong += [(place, name) for (place, name, _), good in zip(found, finite, strict=True) if not good]
    return min(wrong)[1] if wrong else None


def _is_finite(tensor: Tensor) -> Tensor:
    """Whether all values of a tensor are finite. torch cannot test 8-bit floats, which are converted first."""
    return (tensor.float() if tensor.element_size() == 1 else tensor).isfinite().all()


def _tensors_in(value: Any, name: str, seen: set[int]) -> Iterator[tuple[str, Tensor]]:
    """Tensors in nested containers with their dotted names, each tensor once."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Tensor):
        yield name, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    for key, item in items:
        yield from _tensors_in(item, f'{name}.{key}' if name else str(key), seen)
