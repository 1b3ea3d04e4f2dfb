"""Building, counting and training models of any system."""

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from helpers.repo import CONFIGS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

T = TypeVar('T')


def load_config(name: str) -> Config:
    """``configs/<name>.py``, whose type names mean what they mean to the tools."""
    config = Config.fromfile(CONFIGS / f'{name}.py')
    init_default_scope(config.default_scope)
    return config


def on_meta(build: Callable[..., T], *args, **kwargs) -> T:
    """What ``build`` makes, without memory: tensors have shapes alone."""
    with torch.device('meta'):
        return build(*args, **kwargs)


def empty_tensors(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Tensors of these shapes, without memory."""
    return {name: torch.empty(shape, device='meta') for name, shape in shapes.items()}


def count_parameters(*modules: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def giga_multiply_adds(module: nn.Module, *args) -> float:
    """Multiply-adds in 10^9 as torch counts them, without computing anything; the module loses its weights."""
    with FlopCounterMode(display=False) as counter:
        module.to('meta')(*args)
    return counter.get_total_flops() / 2e9


def train_step(model: nn.Module, data: dict) -> dict[str, float]:
    """Losses of a training step, after which every parameter has a finite gradient."""
    model.train()
    losses = model(**model.data_preprocessor(data, training=True), mode='loss')
    total, values = model.parse_losses(losses)
    assert torch.isfinite(total)
    model.zero_grad()
    total.backward()
    learned = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert [name for name, p in learned.items() if p.grad is None] == []
    assert all(torch.isfinite(p.grad).all() for p in learned.values())
    return values
