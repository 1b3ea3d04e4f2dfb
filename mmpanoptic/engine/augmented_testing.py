"""Test-time augmentation as a config describes it."""

from mmengine.config import Config, ConfigDict

from mmpanoptic.datasets.wrappers import with_changes
from mmpanoptic.utils import UserError

from .components import dataset_config


def use_tta(config: Config) -> None:
    """Make a config test with augmentations: put its ``tta_model`` around its model, and use its ``tta_pipeline``.

    Raises:
        UserError: If the config has no such model or pipeline.
    """
    missing = [key for key in ('tta_model', 'tta_pipeline') if config.get(key) is None]
    if missing:
        raise UserError(f'--tta: the config has no {" and no ".join(missing)}; inherit them from configs/_base_/tta/')
    config.model = ConfigDict(config.tta_model, module=config.model)
    dataset = dataset_config(config, 'test_dataloader')
    config.test_dataloader.dataset = with_changes(dataset, dict(pipeline=config.tta_pipeline))
