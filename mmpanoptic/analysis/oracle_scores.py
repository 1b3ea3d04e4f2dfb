"""PQ when parts of stored evidence are replaced by ground truth, one at a time and cumulatively."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from rich.table import Table

from mmpanoptic.engine.results import add_predictions, in_order_of, kept_evidence
from mmpanoptic.evaluation.panoptic_quality import PQStat, accumulate, average, match_segments
from mmpanoptic.models.fusion import BaseFusionHead, HeuristicFusion
from mmpanoptic.utils import UserError, tracked_map

from .ground_truth import annotated_dataset, require_annotated
from .oracles import ORACLES, mended, refuse, subject_of

Combination = tuple[str, ...]
GROUPS = {'All': None, 'Things': True, 'Stuff': False}


def choose(head: BaseFusionHead, named: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """The oracles to apply, and a note on each one that is left out.

    Args:
        head: The fusion head.
        named: Names from :data:`~.oracles.ORACLES`, in the order in which they are stacked; None: all that the head
            supports.

    Raises:
        UserError: If an oracle is unknown, named twice, or not supported by the head.
    """
    reasons = {oracle: refuse(head, oracle) for oracle in named or ORACLES}
    if named is None:
        notes = [f'{oracle} is left out: {reason}' for oracle, reason in reasons.items() if reason]
        return [oracle for oracle, reason in reasons.items() if reason is None], notes
    for oracle in named:
        if named.count(oracle) > 1:
            raise UserError(f'{oracle} is named twice: once is enough', 'oracles')
        if reasons[oracle]:
            raise UserError(f'{oracle}: {reasons[oracle]}; leave it out', 'oracles')
    return list(named), []


def combinations(oracles: Sequence[str]) -> list[Combination]:
    """No oracle, each oracle alone, and the first two, three, ... oracles together."""
    alone = [(oracle,) for oracle in oracles]
    return [(), *alone, *(tuple(oracles[:number]) for number in range(2, len(oracles) + 1))]


def score_combinations(
    config: Config,
    head: BaseFusionHead,
    results: list[dict[str, Any]],
    oracles: Sequence[str],
    path: str,
    number: int | None = None,
) -> dict[Combination, dict[str, dict[str, float]]]:
    """PQ with each of :func:`combinations`, in their order.

    Args:
        config: Config with the test dataset that was predicted.
        head: The fusion head.
        results: Predictions with evidence, see :func:`~mmpanoptic.engine.results.read_results`.
        oracles: Names of the oracles.
        path: The file of the results, for messages.
        number: Number of images to score; None: all.

    Returns:
        By combination, ``All``, ``Things`` and ``Stuff`` as in :func:`~mmpanoptic.evaluation.panoptic_quality.average`.

    Raises:
        UserError: If the results belong to another dataset or hold no evidence, or an image has no ground truth.
    """
    dataset = annotated_dataset(config, 'test_dataloader')
    ordered = in_order_of(results, dataset, path)
    asked = combinations(oracles)

    def matches_of(index: int) -> list:
        return _matches(dataset[index], ordered[index], head, asked, path)

    jobs = range(len(dataset) if number is None else min(number, len(dataset)))
    rows = list(tracked_map(matches_of, jobs, 1, 'Fusing'))
    categories = dataset.metainfo['categories']
    stats = [accumulate(column, head.num_classes) for column in zip(*rows, strict=True)]
    return {oracles: _groups(stat, categories) for oracles, stat in zip(asked, stats, strict=True)}


@torch.no_grad()
def _matches(
    annotation: dict, result: Mapping[str, Any], head: BaseFusionHead, asked: Iterable[Combination], path: str
) -> list:
    """Matches of an image's segments with each combination of oracles."""
    require_annotated(annotation)
    sample = DetDataSample()
    add_predictions(sample, result, (annotation['height'], annotation['width']), path)
    subject = subject_of(kept_evidence(sample), annotation, head)
    found = []
    for oracles in asked:
        evidence, order = mended(subject, oracles)
        panoptic, segments = head.fuse(evidence, order) if isinstance(head, HeuristicFusion) else head.fuse(evidence)
        ids, infos = annotation['gt_panoptic_map'], annotation['segments_info']
        name = annotation['img_path']
        found.append(match_segments(ids, infos, panoptic.numpy(), segments, head.num_classes, name))
    return found


def _groups(stat: PQStat, categories: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    return {name: average(stat, categories, isthing) for name, isthing in GROUPS.items()}


def table_of(scores: Mapping[Combination, Mapping[str, Mapping[str, float]]], oracles: Sequence[str]) -> Table:
    """Table of scores, with the gains of single oracles over none and of each stack over the previous one.

    Args:
        scores: Result of :func:`score_combinations`.
        oracles: Names of the oracles in the order of the stack.
    """
    table = Table('from the ground truth')
    for header in ('PQ', 'gain', 'PQ_th', 'gain', 'PQ_st', 'gain'):
        table.add_column(header, justify='right')

    def add(title: str, combination: Combination, before: Combination | None) -> None:
        cells = []
        for group in GROUPS:
            pq = 100 * scores[combination][group]['pq']
            gain = '' if before is None else f'{pq - 100 * scores[before][group]["pq"]:+.2f}'
            cells += [f'{pq:.2f}', gain]
        table.add_row(title, *cells)

    add('nothing', (), None)
    table.add_section()
    for oracle in oracles:
        add(f'{oracle} alone', (oracle,), ())
    table.add_section()
    for number, oracle in enumerate(oracles, 1) if len(oracles) > 1 else ():
        add(f'+ {oracle}' if number > 1 else oracle, tuple(oracles[:number]), tuple(oracles[: number - 1]))
    return table


def plain_of(scores: Mapping[Combination, Mapping[str, Mapping[str, float]]]) -> list[dict[str, Any]]:
    """The result of :func:`score_combinations` for a JSON: for each combination, a dict of ``oracles`` and scores."""
    return [dict(oracles=list(combination), **groups) for combination, groups in scores.items()]
