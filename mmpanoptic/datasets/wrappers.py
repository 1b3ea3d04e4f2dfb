"""Wrappers of datasets (repeated, concatenated, balanced, mixed), which may be nested."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import mmdet.datasets
import mmengine.dataset

from mmpanoptic.registry import DATASETS
from mmpanoptic.utils import DatasetError

from .pipelines import Pipeline, steps_of


def inner_datasets(dataset: Any) -> Iterator[Any]:
    """Yield the datasets inside of wrappers at any depth; for a dataset without a wrapper, the dataset itself.

    Args:
        dataset: A dataset, or its config.
    """
    return (layer for layer in layers(dataset) if not _inside(layer))


def layers(dataset: Any) -> Iterator[Any]:
    """Yield a dataset, or its config, and all datasets inside of it, from the outside in."""
    yield dataset
    for inner in _inside(dataset):
        yield from layers(inner)


def _inside(dataset: Any) -> list:
    """The datasets directly inside of a wrapper."""
    several, single = (
        dataset.get(key) if isinstance(dataset, Mapping) else getattr(dataset, key, None)
        for key in ('datasets', 'dataset')
    )
    return list(several) if isinstance(several, (list, tuple)) else [] if single is None else [single]


def with_changes(dataset: Mapping, changes: Mapping) -> dict:
    """Change entries in the config of a dataset, or of the datasets inside of a wrapper's config.

    If the changes have a pipeline, a wrapper with a pipeline (of mixed images) is removed, since it would run after
    the new one.
    """
    inside = _inside(dataset)
    if not inside:
        return {**dataset, **changes}
    changed = [with_changes(inner, changes) for inner in inside]
    if 'datasets' in dataset:
        return {**dataset, 'datasets': changed}
    return changed[0] if 'pipeline' in dataset and 'pipeline' in changes else {**dataset, 'dataset': changed[0]}


def check_same_classes(datasets: Sequence[Any]) -> None:
    """Refuse datasets of one run whose labels mean different classes, which would give a PQ near 0 without an error.

    Raises:
        DatasetError: Naming the two files and the first label that differs.
    """
    for dataset in datasets[1:]:
        first, other = (d.metainfo for d in (datasets[0], dataset))
        things = [len(meta.get('thing_classes', meta.get('classes', ()))) for meta in (first, other)]
        for label, names in enumerate(itertools.zip_longest(first.get('classes', ()), other.get('classes', ()))):
            if names[0] != names[1] or (label < things[0]) != (label < things[1]):
                raise DatasetError(
                    f'{datasets[0].ann_file} and {dataset.ann_file} differ in class {label} ({names[0]!r} against '
                    f'{names[1]!r}): list the same `categories` in the same order, with the same isthing, in both'
                )


@DATASETS.register_module()
class ConcatDataset(mmdet.datasets.ConcatDataset):
    """mmdet's dataset of that name, whose ``metainfo`` is that of the first dataset.

    The classes must be the same. Category ids, colours and other entries may differ; if they do, mmdet's class makes
    ``metainfo`` a list, which no metric accepts.

    Args:
        datasets: Datasets or their configs.
        lazy_init: Whether to read the annotations only when they are needed.
        ignore_keys: Keys of ``metainfo`` that may differ, as in mmdet. Here all but the classes may differ.

    Raises:
        DatasetError: If there is no dataset, or classes differ.
    """

    def __init__(
        self, datasets: Sequence[Any], lazy_init: bool = False, ignore_keys: str | list[str] | None = None
    ) -> None:
        if not datasets:
            raise DatasetError('ConcatDataset: datasets is empty: list at least one')
        self.datasets = [DATASETS.build(inner) if isinstance(inner, Mapping) else inner for inner in datasets]
        self.ignore_keys = [ignore_keys] if isinstance(ignore_keys, str) else list(ignore_keys or ())
        check_same_classes(list(inner_datasets(self)))
        self._metainfo = self.datasets[0].metainfo
        self._fully_initialized = False
        if not lazy_init:
            self.full_init()
            self._metainfo['cumulative_sizes'] = self.cumulative_sizes

    def get_cat_ids(self, idx: int) -> list[int]:
        """Labels of the instances of an image, for a ``ClassBalancedDataset`` around this one."""
        place, inner = self._get_ori_dataset_idx(idx)
        return self.datasets[place].get_cat_ids(inner)


@DATASETS.register_module()
class RepeatDataset(mmengine.dataset.RepeatDataset):
    """mmengine's dataset of that name, which can be wrapped by a ``ClassBalancedDataset``."""

    def get_cat_ids(self, idx: int) -> list[int]:
        """See :meth:`ConcatDataset.get_cat_ids`."""
        return self.dataset.get_cat_ids(self._get_ori_dataset_idx(idx))


@DATASETS.register_module()
class MultiImageMixDataset(mmdet.datasets.MultiImageMixDataset):
    """mmdet's dataset of that name, with named steps, which can be wrapped by a ``ClassBalancedDataset``.

    Args:
        dataset: The dataset to be mixed, or its config; its pipeline must not pack.
        pipeline: The step that mixes and all later steps, see :func:`~mmpanoptic.datasets.pipelines.steps_of`.
        kwargs: See :class:`mmdet.datasets.MultiImageMixDataset`.
    """

    def __init__(self, dataset: Any, pipeline: Pipeline, **kwargs) -> None:
        super().__init__(dataset, steps_of(pipeline), **kwargs)

    def get_cat_ids(self, idx: int) -> list[int]:
        """Labels of the instances of the image that others are pasted into; see :meth:`ConcatDataset.get_cat_ids`."""
        return self.dataset.get_cat_ids(idx)
