"""Models and test pipelines, built from a config."""

import os

import torch
from mmdet.utils import get_test_pipeline_cfg
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from torch import nn

from mmpanoptic.datasets import steps_of
from mmpanoptic.engine.checkpoint_files import read_checkpoint
from mmpanoptic.engine.checkpoints import first_misfit, require_finite, weights_and_meta
from mmpanoptic.engine.class_counts import counted_model
from mmpanoptic.engine.components import building
from mmpanoptic.engine.configs import require_keys
from mmpanoptic.engine.data_places import LOADERS
from mmpanoptic.registry import MODELS, TRANSFORMS
from mmpanoptic.utils import UserError


def load_model(
    config: Config,
    checkpoint: str | os.PathLike | None = None,
    device: str | torch.device | None = None,
    trust_checkpoint: bool = False,
    allow_nan: bool = False,
) -> tuple[nn.Module, dict]:
    """Build the model of a config for testing.

    Args:
        config: The config. Numbers of classes that are 'auto' are the checkpoint's or, if it does not tell them, those
            of the data: of the test's, the validation's or the training's, whichever is there.
        checkpoint: File or URL of its weights; without, they are random.
        device: Where to put it; by default the GPU if there is one.
        trust_checkpoint, allow_nan: See :class:`~mmpanoptic.apis.PanopticInferencer`.

    Returns:
        The model in eval mode, and the checkpoint's ``meta``.

    Raises:
        UserError: If the checkpoint cannot be read, it is not one of this model, or there is no such device.
    """
    init_default_scope(config.get('default_scope', 'mmpanoptic'))
    require_keys(config, 'model')
    weights, meta = None, {}
    if checkpoint is not None:
        checkpoint = os.fspath(checkpoint)
        weights, meta = weights_and_meta(read_checkpoint(checkpoint, trust_checkpoint), checkpoint)
        if not allow_nan:
            require_finite(weights, checkpoint)
    parts = dict(model=counted_model(config, LOADERS[::-1], meta.get('dataset_meta')))
    with building(parts):
        model = revert_sync_batchnorm(MODELS.build(parts['model']))
    if weights is not None:
        if misfit := first_misfit(model, weights):  # mmengine only warns, and predictions are noise then
            raise UserError(
                f'{checkpoint} is not of the model that {config.filename or "the config"} describes: {misfit}'
            )
        model.load_state_dict(weights, strict=False)
    device = device or ('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        return model.to(device).eval(), meta
    except (RuntimeError, AssertionError) as error:  # torch built without CUDA asserts
        raise UserError(f'device {device} cannot be used: {str(error).splitlines()[0]}') from None


def prediction_transforms(config: Config) -> tuple:
    """Loaders of files and of arrays, and what follows them in the test pipeline but for loading annotations."""
    try:
        steps = steps_of(get_test_pipeline_cfg(config))
    except (AttributeError, RuntimeError, TypeError, LookupError):
        raise UserError(f'{config.filename or "the config"} has no test_dataloader.dataset.pipeline: set it') from None
    pipeline = [step for step in steps if 'Annotations' not in str(step['type'])]
    if not pipeline or 'LoadImageFromFile' not in str(pipeline[0]['type']):
        raise UserError('the test pipeline does not begin with LoadImageFromFile')
    load_array = dict(type='LoadImageFromNDArray', to_float32=pipeline[0].get('to_float32', False))
    with building(config, 'test_dataloader'):
        return TRANSFORMS.build(pipeline[0]), TRANSFORMS.build(load_array), Compose(pipeline[1:])
