"""Statistics of datasets, and warnings about them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mmpanoptic.results.coco import Category
from mmpanoptic.structures.object_sizes import OBJECT_SIZES

from .inspection import Inspection
from .near_duplicates import near_duplicates

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def statistics_of(found: Inspection) -> dict[str, Any]:
    """Statistics of one dataset, as plain values.

    Returns:
        ``ann_file``; ``images``; ``image_sizes`` (smallest, median and largest height and width);
        ``things`` and ``stuff`` (segments, without crowds) and ``crowds``; ``void`` and ``crowd_area`` (shares of all
        pixels, None without panoptic maps); ``without_things`` and ``without_segments`` (images); ``thing_sizes``
        (number of things by ``OBJECT_SIZES``) and ``thing_pixels`` (:data:`QUANTILES` of their pixels, None without a
        thing); ``overlaps`` (``pixels``, the share of masked pixels that are in several masks, ``pairs`` of overlapping
        masks and ``images`` with such a pair; None without an instances JSON); ``classes``, see :func:`_class_rows`.
    """
    facts = found.facts
    labels, pixels, crowds = (
        np.concatenate([getattr(of_image, key) for of_image in facts] or [np.zeros(0, np.int64)])
        for key in ('labels', 'pixels', 'crowds')
    )
    crowds = crowds.astype(bool)
    images = np.repeat(np.arange(len(facts)), [len(of_image.labels) for of_image in facts])
    is_thing = np.zeros(max((c['label'] for c in found.categories), default=-1) + 1, bool)
    is_thing[[c['label'] for c in found.categories if c['isthing']]] = True
    thing = is_thing[labels] & ~crowds
    total = sum(info['height'] * info['width'] for info in found.infos)
    void = [of_image.void for of_image in facts if of_image.void is not None]
    overlaps = [of_image.overlap for of_image in facts if of_image.overlap is not None]
    sizes = np.array([[info['height'], info['width']] for info in found.infos]).reshape(-1, 2)
    return dict(
        ann_file=found.source.ann_file,
        images=len(facts),
        image_sizes=[f(sizes, axis=0).astype(int).tolist() for f in (np.min, np.median, np.max)]
        if len(sizes)
        else None,
        things=int(thing.sum()),
        stuff=int((~is_thing[labels] & ~crowds).sum()),
        crowds=int(crowds.sum()),
        void=sum(void) / total if void else None,
        crowd_area=float(pixels[crowds].sum() / total) if void else None,
        without_things=len(facts) - len(np.unique(images[thing])),
        without_segments=len(facts) - len(np.unique(images)),
        thing_sizes=_by_size(pixels[thing]),
        thing_pixels=np.quantile(pixels[thing], QUANTILES).round().astype(int).tolist() if thing.any() else None,
        overlaps=_overlaps(overlaps) if overlaps else None,
        classes=_class_rows(found.categories, labels, pixels, crowds, images, total),
    )


def _by_size(pixels: np.ndarray) -> dict[str, int]:
    return {name: int(((low <= pixels) & (pixels < high)).sum()) for name, (low, high) in OBJECT_SIZES.items()}


def _overlaps(overlaps: list[tuple[int, int, int]]) -> dict[str, Any]:
    covered, several, pairs = np.array(overlaps).T
    share = float(several.sum() / covered.sum()) if covered.any() else 0.0
    return dict(pixels=share, pairs=int(pairs.sum()), images=int((pairs > 0).sum()))


def _class_rows(
    categories: list[Category],
    labels: np.ndarray,
    pixels: np.ndarray,
    crowds: np.ndarray,
    images: np.ndarray,
    total: int,
) -> list[dict]:
    """Statistics of each class, in the order of labels.

    Returns:
        Dicts with ``name``, ``isthing``, ``segments``, ``crowds``, ``images``, ``area`` (share of all pixels, without
        crowds), numbers of segments by ``OBJECT_SIZES`` and ``median`` (pixels of a segment, None without segments).
    """
    rows = []
    for category in sorted(categories, key=lambda category: category['label']):
        of_class = labels == category['label']
        counted = of_class & ~crowds
        rows.append(
            dict(
                name=category['name'],
                isthing=category['isthing'],
                segments=int(counted.sum()),
                crowds=int((of_class & crowds).sum()),
                images=len(np.unique(images[counted])),
                area=float(pixels[counted].sum() / total) if total else 0.0,
                **_by_size(pixels[counted]),
                median=int(np.median(pixels[counted])) if counted.any() else None,
            )
        )
    return rows


def warnings_of(found: Mapping[str, Inspection], statistics: Mapping[str, dict]) -> list[dict]:
    """Warnings about datasets, for a user who is about to train on them.

    Args:
        found: Contents of the files, by split.
        statistics: Statistics by split, see :func:`statistics_of`.

    Returns:
        Dicts with ``text`` and the ``items`` that it is about.
    """
    warnings = []

    def warn(text: str, items: list[str]) -> None:
        if items:
            warnings.append(dict(text=text.format(len(items)), items=items))

    for split, numbers in statistics.items():
        names = [row['name'] for row in numbers['classes'] if not row['segments']]
        warn(f'{split}: {{}} classes without a segment', names)
        things = any(row['isthing'] for row in numbers['classes'])
        infos = list(zip(found[split].infos, found[split].facts, strict=True))
        label_is_thing = {c['label']: c['isthing'] for c in found[split].categories}
        if things:
            without = [
                info['file_name']
                for info, facts in infos
                if not any(label_is_thing[label] for label in facts.labels[~facts.crowds].tolist())
            ]
            warn(f'{split}: {{}} images without things, which filter_empty_gt=True leaves out of a training', without)
        warn(f'{split}: {{}} images without a segment', [i['file_name'] for i, facts in infos if not len(facts.labels)])
    if {'train', 'val'} <= found.keys():
        _compare(found['train'], found['val'], statistics, warn)
    return warnings


def _compare(train: Inspection, val: Inspection, statistics: Mapping[str, dict], warn: Any) -> None:
    """Warn of images that training and validation share, and of classes that they do not share."""
    trained = {row['name'] for row in statistics['train']['classes'] if row['segments']}
    scored = [row['name'] for row in statistics['val']['classes'] if row['segments']]
    warn('{} classes of val are without a segment in train', [name for name in scored if name not in trained])
    paths = {info['img_path'] and str(Path(info['img_path']).resolve()) for info in train.infos} - {None}
    same = [info for info in val.infos if info['img_path'] and str(Path(info['img_path']).resolve()) in paths]
    warn('{} images are in train and in val', [info['file_name'] for info in same])
    pairs = near_duplicates([of_image.look for of_image in train.facts], [of_image.look for of_image in val.facts])
    names = [(train.infos[first]['file_name'], val.infos[second]['file_name']) for first, second in pairs]
    warn('{} pairs of images of train and val look the same', [f'{first} and {second}' for first, second in names])
    named = {info['file_name'] for info in train.infos} - {first for first, second in names if first == second}
    also = [info['file_name'] for info in val.infos if info['file_name'] in named and info not in same]
    warn('{} names of images occur in train and in val, of files that look different', also)
