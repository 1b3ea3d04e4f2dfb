"""What a checkpoint must hold to be used: all weights of the model, its classes, finite values."""

from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor

from mmpanoptic.utils import UserError


class RequireAllWeights(Hook):
    """Refuse a checkpoint that leaves weights of the model as they were initialised, or numbers the classes otherwise.

    mmengine logs what does not fit and goes on, so that a wrong checkpoint gives a wrong score.

    Args:
        resuming: Whether the checkpoint has to hold the state of the training as well.
        allow_nan: Whether it may hold values that are not finite.
    """

    priority = 'VERY_LOW'  # after hooks that rewrite the checkpoint

    def __init__(self, resuming: bool = False, allow_nan: bool = False) -> None:
        self.resuming = resuming
        self.allow_nan = allow_nan

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare names and shapes before the weights are copied."""
        path = runner._load_from
        weights = checkpoint.get('state_dict', checkpoint) if isinstance(checkpoint, dict) else checkpoint
        if not isinstance(weights, dict):
            raise UserError(f'{path} holds a {type(weights).__name__}, not the weights of a model by name')
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
        trained = ((checkpoint.get('meta') or {}).get('dataset_meta') or {}).get('classes', ())
        classes = dataset.metainfo.get('classes', ())
        other = next((i for i, names in enumerate(zip(trained, classes, strict=False)) if names[0] != names[1]), None)
        if len(trained) == len(classes) and other is not None:  # of another number, the heads do not fit
            raise UserError(
                f'{path} was trained with class {other} being {trained[other]!r}, which is {classes[other]!r} in the '
                'dataset of the config: list the same categories in the same order'
            )


def require_finite(content: dict, path: str) -> None:
    """Refuse a checkpoint with a value that is NaN or infinite: it would score 0, or spoil what is trained from it.

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


def first_misfit(model: torch.nn.Module, weights: dict) -> str | None:
    """What a model needs and weights by name lack first, or None; counters of batch norm may be missing."""
    weights = {name.removeprefix('module.'): value for name, value in weights.items()}
    for name, own in model.state_dict().items():
        value = weights.get(name)
        if value is None:
            if not name.endswith('num_batches_tracked'):
                return f'it has no {name}'
        elif not isinstance(value, torch.Tensor) or value.shape != own.shape:
            shape = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
            return f'{name} is {shape} in the checkpoint and {tuple(own.shape)} in the model'
    return None


def first_not_finite(content: Any) -> str | None:
    """Dotted name of the first tensor of floats in nested dicts and lists with a NaN or an infinite value, or None."""
    seen: set[int] = set()

    def search(value: Any, name: str) -> str | None:
        if id(value) in seen:
            return None
        seen.add(id(value))
        if isinstance(value, Tensor):
            return None if not value.is_floating_point() or bool(value.isfinite().all()) else name
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        found = (search(item, f'{name}.{key}' if name else str(key)) for key, item in items)
        return next((one for one in found if one is not None), None)

    return search(content, '')
