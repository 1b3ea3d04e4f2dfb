"""What all metrics share: arguments that take effect or are refused, and parts of samples that have to be there."""

import os
from collections.abc import Mapping
from typing import Any

from mmengine.evaluator import BaseMetric

from mmpanoptic.utils import UserError


def check_gathering(metric: BaseMetric, given: Mapping[str, Any]) -> None:
    """Refuse arguments of :class:`mmengine.evaluator.BaseMetric` that fail, or do harm, when all images are done.

    Args:
        metric: The metric, which has them.
        given: Its keyword arguments.

    Raises:
        UserError: If ``collect_device`` is unknown, ``collect_dir`` holds something, which mmengine would delete with
            it, or ``prefix`` is empty, which would be the default one.
    """
    name = type(metric).__name__
    if metric.collect_device not in ('cpu', 'gpu'):
        raise UserError(f"{name}: collect_device is {metric.collect_device!r}: 'cpu' or 'gpu' is needed")
    folder = metric.collect_dir
    if folder is not None and os.path.lexists(folder) and not (os.path.isdir(folder) and not os.listdir(folder)):
        raise UserError(f'{name}: collect_dir {folder} is no empty folder, and is deleted after use: name a new one')
    if given.get('prefix') == '':
        raise UserError(f"{name}: prefix is '': leave it out for {metric.default_prefix!r}, or name another")


def refuse_without(metric: BaseMetric, needed: str, **given: Any) -> None:
    """Refuse arguments that have no effect without another one.

    Args:
        metric: The metric.
        needed: The argument that is not given.
        given: Those that need it; None is one that is not given.

    Raises:
        UserError: Naming the first.
    """
    for name, value in given.items():
        if value is not None:
            raise UserError(
                f'{type(metric).__name__}: {name} has no effect without {needed}: set {needed}, or drop {name}'
            )


def require_part(sample: dict, key: str, remedy: str) -> dict:
    """A part of a sample.

    Raises:
        UserError: If there is none, naming the image.
    """
    if key not in sample:
        raise UserError(f'{sample["img_path"]}: no {key}: {remedy}')
    return sample[key]
