"""Models and test pipelines, built from a config."""

import os
from collections.abc import Callable
from typing import Any

import torch
from mmdet.models import BaseDetector
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope

from mmpanoptic.datasets.pipelines import steps_of_test, type_of
from mmpanoptic.engine.checkpoint_files import read_checkpoint
from mmpanoptic.engine.checkpoints import first_misfit, require_finite, weights_and_meta
from mmpanoptic.engine.class_counts import counted_model
from mmpanoptic.engine.components import building
from mmpanoptic.engine.configs import require_keys
from mmpanoptic.engine.data_places import LOADERS
from mmpanoptic.registry import MODELS, TRANSFORMS
from mmpanoptic.utils import UserError

Transform = Callable[[dict[str, Any]], dict[str, Any]]


def load_model(
    config: Config,
    checkpoint: str | os.PathLike | None = None,
    device: str | torch.device | None = None,
    trust_checkpoint: bool = False,
    allow_nan: bool = False,
) -> tuple[BaseDetector, dict[str, Any]]:
    """Build the model of a config for testing.

    Args:
        config: The config. Numbers of classes that are 'auto' are taken from the checkpoint or, if it does not state
            them, from the first dataset that exists among those for testing, validation and training.
        checkpoint: File or URL of the weights; without a checkpoint, the weights are random.
        device: Device of the model; by default the GPU if there is one.
        trust_checkpoint, allow_nan: See :class:`~mmpanoptic.apis.PanopticInferencer`.

    Returns:
        The model in eval mode, and ``meta`` of the checkpoint.

    Raises:
        UserError: If the checkpoint cannot be read or is not of this model, or the device does not exist.
    """
    init_default_scope(config.get('default_scope', 'mmpanoptic'))
    require_keys(config, 'model')
    weights = None
    meta: dict[str, Any] = {}
    if checkpoint is not None:
        checkpoint = os.fspath(checkpoint)
        weights, meta = weights_and_meta(read_checkpoint(checkpoint, trust_checkpoint), checkpoint)
        if not allow_nan:
            require_finite(weights, checkpoint)
    parts = dict(model=counted_model(config, LOADERS[::-1], meta.get('dataset_meta')))
    with building(parts):
        model = revert_sync_batchnorm(MODELS.build(parts['model']))
    if weights is not None:
        if misfit := first_misfit(model, weights):  # mmengine would only warn, and the predictions would be noise
            raise UserError(
                f'{checkpoint} is not of the model that {config.filename or "the config"} describes: {misfit}'
            )
        model.load_state_dict(weights, strict=False)
    device = device or ('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        return model.to(device).eval(), meta
    except (RuntimeError, AssertionError) as error:  # a torch without CUDA raises AssertionError
        raise UserError(f'device {device} cannot be used: {str(error).splitlines()[0]}') from None


def prediction_transforms(config: Config) -> tuple[Transform, Transform, Compose]:
    """Build the test pipeline of a config without the steps that load annotations.

    Returns:
        A transform that loads a file, a transform that takes an array instead, and the steps that follow.

    Raises:
        UserError: If the config has no test pipeline, or its first step is not LoadImageFromFile.
    """
    name = config.filename or 'the config'
    pipeline = [step for step in steps_of_test(config) if 'Annotations' not in type_of(step)]
    load_file = pipeline[0] if pipeline else None
    if not isinstance(load_file, dict) or 'LoadImageFromFile' not in type_of(load_file):
        raise UserError(f'{name}: the test pipeline does not begin with LoadImageFromFile: put that step first')
    load_array = dict(type='LoadImageFromNDArray', to_float32=load_file.get('to_float32', False))
    with building(config, 'test_dataloader'):
        return TRANSFORMS.build(load_file), TRANSFORMS.build(load_array), Compose(pipeline[1:])
