"""Checks that all metrics share: of their arguments, and of required parts of samples."""

import os
from collections.abc import Mapping
from typing import Any

from mmengine.evaluator import BaseMetric

from mmpanoptic.utils import UserError


def check_gathering(metric: BaseMetric, given: Mapping[str, Any]) -> None:
    """Refuse arguments of :class:`mmengine.evaluator.BaseMetric` that would fail or do harm after the last image.

    Args:
        metric: The metric, constructed.
        given: Its keyword arguments.

    Raises:
        UserError: If ``collect_device`` is unknown, ``collect_dir`` is not empty (mmengine would delete its files), or
            ``prefix`` is empty (mmengine would take the default).
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
        given: Arguments that need it; None for an argument that is not given.

    Raises:
        UserError: Naming the first argument that is given.
    """
    for name, value in given.items():
        if value is not None:
            raise UserError(
                f'{type(metric).__name__}: {name} has no effect without {needed}: set {needed}, or drop {name}'
            )


def require_part(sample: Mapping[str, Any], key: str, remedy: str) -> dict[str, Any]:
    """Get a part of a sample.

    Raises:
        UserError: If the sample lacks it; the message names the image and ends with ``remedy``.
    """
    if key not in sample:
        raise UserError(f'{sample["img_path"]}: no {key}: {remedy}')
    return sample[key]
