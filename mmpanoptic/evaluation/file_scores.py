"""Scores of files with intervals, the account of lost points and oracles, as plain values for a JSON."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .account import balance, find_causes, ledger_of, lost_segments, oracle_table
from .bootstrap import ImageStats, differences, image_stats, intervals, resample
from .numbering import check_numbering
from .panoptic_files import Mapper, count_files, scores_of
from .panoptic_quality import match_counts
from .segment_counts import Counts


class Bootstrap(NamedTuple):
    """Settings of the bootstrap.

    Attributes:
        number: Number of draws. Each draws as many images as there are, with replacement.
        seed: Seed of the draws.
        confidence: Share of the draws inside of an interval.
    """

    number: int = 1000
    seed: int = 0
    confidence: float = 0.95


def score_files(
    gt_json: str | Path,
    gt_dir: str | Path,
    predictions: Sequence[tuple[str | Path, str | Path]],
    bootstrap: Bootstrap | None = None,
    trust_categories: bool = False,
    mapper: Mapper = map,
    instances: tuple[str | Path, float] | None = None,
    segments: bool = False,
) -> dict[str, Any]:
    """Score one set of predictions, or one against another.

    Args:
        gt_json: See :func:`~.panoptic_files.evaluate_files`.
        gt_dir: See :func:`~.panoptic_files.evaluate_files`.
        predictions: (JSON, folder) of the predictions and, optionally, of a second set to compare with.
        bootstrap: Settings of the intervals; None for no intervals.
        trust_categories: Whether to score predictions whose category ids seem to be of another numbering.
        mapper: See :func:`~.panoptic_files.count_files`.
        instances: See :func:`~.panoptic_files.count_files`; the account needs them for the cause 'hidden'.
        segments: Whether to list every segment as well.

    Returns:
        ``categories`` (``id``, ``name``, ``isthing``), ``images`` (their number), ``notes``, the entries of
        :func:`scored` for the first set of predictions and, under ``against``, those for the second. With intervals
        also ``bootstrap``, ``intervals`` and, for two sets, ``difference`` (:func:`~.bootstrap.differences`).

    Raises:
        UserError: See :func:`~.panoptic_files.evaluate_files` and :func:`~.numbering.check_numbering`.
    """
    files = count_files(gt_json, gt_dir, predictions, mapper, instances)
    if not trust_categories:
        for (path, _), counts in zip(predictions, files.sets, strict=True):
            check_numbering(counts, files.categories, str(path))
    known = [files.was_found] + [None] * (len(files.sets) - 1)
    images = files.images if segments else None
    results = [scored(of, files.categories, found, images) for of, found in zip(files.sets, known, strict=True)]
    if bootstrap is not None:
        stats = [_stats(counts, len(files.images), len(files.categories)) for counts in files.sets]
        draws = resample(stats, files.categories, bootstrap.number, bootstrap.seed)
        for result, of_set in zip(results, draws, strict=True):
            result['intervals'] = intervals(of_set, bootstrap.confidence)
        results[0]['bootstrap'] = bootstrap._asdict()
        if len(draws) > 1:
            results[0]['difference'] = differences(draws[0], draws[1], bootstrap.confidence)
    if len(results) > 1:
        results[0]['against'] = results[1]
    return {
        'categories': [dict(id=c['id'], name=c['name'], isthing=c['isthing']) for c in files.categories],
        'images': len(files.images),
        'notes': files.notes,
        **results[0],
    }


def scored(
    counts: Counts,
    categories: Sequence[Mapping[str, Any]],
    was_found: np.ndarray | None = None,
    images: Sequence[Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Score one set of predictions from its counts.

    Args:
        counts: Segments of all images.
        categories: Categories in the order of the JSON.
        was_found: See :func:`~.account.find_causes`.
        images: Images in the order of the counts, if every segment shall be listed.

    Returns:
        ``scores``, see :func:`~.panoptic_files.evaluate_files` (0 to 1); ``account``
        (:func:`~.account.balance`) and ``oracles`` (:func:`~.account.oracle_table`), both in percent; and, if asked
        for, ``segments`` (:func:`~.account.lost_segments`).
    """
    matching = match_counts(counts)
    isthing = np.array([c['isthing'] for c in sorted(categories, key=lambda category: category['label'])])
    causes = find_causes(counts, matching, isthing, was_found)
    ledger = ledger_of(counts, matching, causes, len(categories))
    result: dict[str, Any] = {
        'scores': scores_of(counts, categories, matching),
        'account': balance(ledger, categories),
        'oracles': oracle_table(ledger, categories),
    }
    if images is not None:
        result['segments'] = list(lost_segments(counts, matching, causes, ledger, categories, images))
    return result


def _stats(counts: Counts, num_images: int, num_classes: int) -> ImageStats:
    return image_stats(counts, match_counts(counts), num_images, num_classes)
