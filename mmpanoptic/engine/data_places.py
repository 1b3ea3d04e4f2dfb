"""Paths of a config's data, which the config states once.

``data_root='auto'`` of a dataset means the config's top-level ``data_root``, and ``ann_file='auto'`` of a metric means
the JSON of the dataset that it scores.
"""

import os.path as osp
from collections.abc import Iterator
from typing import Any

from mmengine.config import Config

from mmpanoptic.datasets.wrappers import inner_datasets
from mmpanoptic.utils import UserError

AUTO = 'auto'
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def takes_data_root(config: Config) -> bool:
    """Whether a dataset of a config uses the top-level ``data_root``."""
    return any(dataset.get('data_root') == AUTO for dataset in _datasets(config))


def fill_places(config: Config) -> None:
    """Replace 'auto' in the datasets and metrics of a config, in place.

    Raises:
        UserError: If a dataset needs the top-level ``data_root`` and the config has none.
    """
    for dataset in _datasets(config):
        if dataset.get('data_root') == AUTO:
            if not isinstance(config.get('data_root'), str):
                raise UserError(
                    f"{config.filename} has datasets with data_root='auto' and no data_root at the top: set it"
                )
            dataset['data_root'] = config.data_root
    for part in ('val', 'test'):
        metrics = config.get(f'{part}_evaluator')
        for metric in metrics if isinstance(metrics, (list, tuple)) else [metrics]:
            if isinstance(metric, dict) and metric.get('ann_file') == AUTO:
                found = inner_datasets((config.get(f'{part}_dataloader') or {}).get('dataset') or {})
                files = [osp.join(dataset.get('data_root') or '', dataset.get('ann_file') or '') for dataset in found]
                metric['ann_file'] = files[0] if len(files) == 1 else files


def _datasets(config: Config) -> Iterator[dict[str, Any]]:
    for loader in LOADERS:
        yield from inner_datasets((config.get(loader) or {}).get('dataset') or {})
