"""Short trainings, for comparisons of losses and gradients."""

import math
import uuid
from statistics import fmean

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from mmpanoptic.engine.precision import DTYPES, choose_precision, use_full_precision
from mmpanoptic.engine.runner import build_runner


def only_train(config: Config, iterations: int) -> None:
    """Change a config in place so that it trains for ``iterations`` and does nothing else.

    Schedules of parameters stay. Those that count epochs are in their first epoch.
    """
    config.train_cfg = dict(type='IterBasedTrainLoop', max_iters=iterations)
    config.val_cfg = config.val_dataloader = config.val_evaluator = None
    config.test_cfg = config.test_dataloader = config.test_evaluator = None
    config.default_hooks.checkpoint = None
    config.log_processor.by_epoch = False


class LossCurve(Hook):
    """Keep the losses of all iterations.

    Attributes:
        losses: Losses by name, one number for each iteration.
    """

    def __init__(self) -> None:
        self.losses: dict[str, list[float]] = {}

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Keep the losses of an iteration."""
        for name, value in (outputs or {}).items():
            if 'loss' in name:
                self.losses.setdefault(name, []).append(torch.as_tensor(value).detach().item())


def loss_curve(config: Config, dtype: str, iterations: int) -> dict[str, list[float]]:
    """Losses of a short training in float32 or in mixed precision.

    Args:
        config: Config from :func:`~mmpanoptic.engine.configs.load_config`; changed in place.
        dtype: 'float32', 'float16' or 'bfloat16'.
        iterations: Number of iterations.

    Returns:
        Losses by name, one number for each iteration.

    Raises:
        UserError: If the device does not support ``dtype``, or a loss is not finite.
    """
    only_train(config, iterations)
    config.launcher = 'none'
    # mmengine keeps loggers and visualizers by name: each training in this process needs names of its own.
    config.experiment_name = config.visualizer.name = f'short_{uuid.uuid4().hex}'
    init_default_scope(config.default_scope)
    if dtype in DTYPES:
        choose_precision(config, dtype)
    else:
        use_full_precision(config)
    runner = build_runner(config)
    curve = LossCurve()
    runner.register_hook(curve)
    runner.train()
    return curve.losses


def last_mean(values: list[float], last: int) -> float:
    """Mean of the ``last`` last values; NaN if any value, also an earlier one, is not finite."""
    return fmean(values[-last:]) if all(map(math.isfinite, values)) else math.nan
