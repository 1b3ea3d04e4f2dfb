"""Configs of the metrics that a test names with ``--eval``."""

import os.path as osp
from collections.abc import Iterable

import mmpanoptic.registry  # noqa: F401  (before mmdet, whose notices it drops)

# isort: split
from mmdet.datasets import CocoDataset
from mmengine.config import Config

from mmpanoptic.datasets import CocoInstanceDataset
from mmpanoptic.datasets.wrappers import inner_datasets
from mmpanoptic.registry import DATASETS
from mmpanoptic.utils import UserError, require_file

from .components import dataset_config

METRICS = ('PQ', 'bbox', 'segm', 'mIoU', 'cityscapes')
_KINDS = {
    'PanopticMetric': ('PQ',),
    'InstanceMetric': ('bbox', 'segm'),
    'PanopticIoUMetric': ('mIoU',),
    'CityscapesInstanceMetric': ('cityscapes',),
}


def as_list(metrics: list | dict | None) -> list:
    """A config's metrics, a list, a single one or None, as a list."""
    return list(metrics) if isinstance(metrics, (list, tuple)) else [metrics] if metrics else []


def evaluators(config: Config, names: list[str], options: Iterable[str] = ()) -> list[dict]:
    """Configs of the metrics that ``--eval`` names.

    Metrics of the config keep their settings. For ``cityscapes``, the config must have a CityscapesInstanceMetric. AP
    is computed against the dataset's instances JSON if it has one, else against the things of the panoptic annotations.

    Args:
        config: The config.
        names: Names from :data:`METRICS`, in upper or lower case.
        options: Keys of ``--cfg-options``.

    Raises:
        UserError: If a name is unknown, the config lacks the CityscapesInstanceMetric, or an option sets a value of a
            metric that is not named.
    """
    known = {metric.lower(): metric for metric in METRICS}
    for name in names:
        if name.lower() not in known:
            raise UserError(f'--eval {name}: unknown metric, choose from {", ".join(METRICS)}')
    wanted = {known[name.lower()] for name in names}
    given = as_list(config.get('test_evaluator'))
    built = []
    for kind, scored in _KINDS.items():
        if not wanted & set(scored):
            continue
        configured = next((e for e in given if e.get('type') == kind), None)
        if kind == 'CityscapesInstanceMetric' and configured is None:
            raise UserError(
                '--eval cityscapes: test_evaluator of the config has no CityscapesInstanceMetric; add it with its '
                'seg_prefix, as configs/_base_/datasets/cityscapes_instance.py does'
            )
        built.append(configured or dict(type=kind))
        if kind == 'InstanceMetric':
            chosen = any(key.startswith('test_evaluator') and key.endswith('ann_file') for key in options)
            file = (configured or {}).get('ann_file')
            file = file if chosen and file else instances_files(config) or file
            built[-1] = dict(built[-1], metric=[metric for metric in scored if metric in wanted], ann_file=file)
    _check_scored(config, built, names, options)
    return built


def _check_scored(config: Config, built: list[dict], names: list[str], options: Iterable[str]) -> None:
    """Refuse options that set values of metrics that are not scored."""
    for key in options:
        start, *place = key.split('.')
        if start != 'test_evaluator' or not place:
            continue
        given = config.test_evaluator
        kind = (given[int(place[0])] if isinstance(given, (list, tuple)) else given).get('type')
        if kind not in [metric['type'] for metric in built]:
            raise UserError(
                f'option {key} is of {kind}, which --eval {" ".join(names)} does not score: set it in a config that '
                'has such a metric, or name another one',
                argument='cfg_options',
            )


def instances_files(config: Config) -> str | list[str] | None:
    """The instances JSON of a config's test dataset, or those of the datasets inside of wrappers; None without any.

    Raises:
        UserError: If a file does not exist, or some datasets have one and others do not.
    """
    files = []
    for dataset in inner_datasets(dataset_config(config, 'test_dataloader')):
        cls = DATASETS.get(dataset.get('type')) if isinstance(dataset.get('type'), str) else dataset.get('type')
        of_instances = isinstance(cls, type) and issubclass(cls, (CocoDataset, CocoInstanceDataset))
        key = 'ann_file' if of_instances else 'inst_ann_file'
        file = dataset.get(key)
        if file is not None:
            file = osp.join(dataset.get('data_root') or '', file)
            require_file(file, key)
        files.append(file)
    files = list(dict.fromkeys(files))
    if None in files and len(files) > 1:
        raise UserError(
            f'--eval: {next(filter(None, files))} is the instances JSON of one tested dataset, and another has none: '
            'set inst_ann_file of all of them, or of none'
        )
    return files[0] if len(files) == 1 else files


def list_classes(metrics: list | dict | None) -> list[dict]:
    """Configs of the metrics with ``classwise`` set where a metric supports it."""
    return [dict(metric, classwise=True) if metric.get('type') in _KINDS else metric for metric in as_list(metrics)]
