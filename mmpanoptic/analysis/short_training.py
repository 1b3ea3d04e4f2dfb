"""Trainings that are too short to be good, for comparisons."""

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
    """Make a config train so many iterations and do nothing else, in place.

    Schedules stay: what they count in epochs is as in the first epoch of the config.
    """
    config.train_cfg = dict(type='IterBasedTrainLoop', max_iters=iterations)
    config.val_cfg = config.val_dataloader = config.val_evaluator = None
    config.test_cfg = config.test_dataloader = config.test_evaluator = None
    config.default_hooks.checkpoint = None
    config.log_processor.by_epoch = False


class LossCurve(Hook):
    """Keeps the losses of all iterations.

    Attributes:
        losses: By name, one number an iteration.
    """

    def __init__(self) -> None:
        self.losses: dict[str, list[float]] = {}

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Keep them."""
        for name, value in (outputs or {}).items():
            if 'loss' in name:
                self.losses.setdefault(name, []).append(torch.as_tensor(value).detach().item())


def loss_curve(config: Config, dtype: str, iterations: int) -> dict[str, list[float]]:
    """Losses of a short training in float32 or in mixed precision, which begins in the same way.

    Args:
        config: A config as :func:`~mmpanoptic.engine.configs.load_config` reads it; changed in place.
        dtype: 'float32', 'float16' or 'bfloat16'.
        iterations: How many.

    Returns:
        By name, one number an iteration.

    Raises:
        UserError: If the device cannot do that, or a loss is not finite.
    """
    only_train(config, iterations)
    config.launcher = 'none'
    # mmengine keeps loggers and visualizers by their names; several trainings in one process need different ones.
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
    """Mean of the last so many values; NaN if one of all of them is not finite."""
    return fmean(values[-last:]) if all(map(math.isfinite, values)) else math.nan
