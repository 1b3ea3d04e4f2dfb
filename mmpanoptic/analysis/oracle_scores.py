"""PQ with parts of the ground truth in stored evidence, alone and one on top of another."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from rich.table import Table

from mmpanoptic.engine.results import add_predictions, in_order_of, kept_evidence
from mmpanoptic.evaluation.panoptic_quality import PQStat, accumulate, average, match_segments
from mmpanoptic.models.fusion import BaseFusionHead
from mmpanoptic.utils import UserError, tracked_map

from .ground_truth import annotated_dataset, require_annotated
from .oracles import ORACLES, mended, refuse, subject_of

Combination = tuple[str, ...]
GROUPS = {'All': None, 'Things': True, 'Stuff': False}


def choose(head: BaseFusionHead, named: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """The oracles to ask, and a note on each that is left out.

    Args:
        head: The fusion head.
        named: Names out of :data:`~.oracles.ORACLES`, to be stacked in this order; None: all that the head can take.

    Raises:
        UserError: If one is unknown, named twice, or nothing that the head can take.
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
    """None of the oracles, each alone, and one on top of another in their order."""
    alone = [(oracle,) for oracle in oracles]
    return [(), *alone, *(tuple(oracles[:number]) for number in range(2, len(oracles) + 1))]


def score_combinations(
    config: Config,
    head: BaseFusionHead,
    results: Sequence[dict[str, Any]],
    oracles: Sequence[str],
    path: str,
    number: int | None = None,
) -> dict[Combination, dict[str, dict[str, float]]]:
    """PQ of each of :func:`combinations`, in their order.

    Args:
        config: Its test dataset is what was tested.
        head: The fusion head.
        results: What was predicted, with evidence (:func:`~mmpanoptic.engine.results.read_results`).
        oracles: Names of the oracles.
        path: The file of the results, for messages.
        number: How many images to look at; None: all.

    Returns:
        ``All``, ``Things`` and ``Stuff`` as :func:`~mmpanoptic.evaluation.panoptic_quality.average` gives them.

    Raises:
        UserError: If the results are not of the dataset, hold no evidence, or an image has no ground truth.
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
    return {one: _groups(stat, categories) for one, stat in zip(asked, stats, strict=True)}


@torch.no_grad()
def _matches(
    annotation: dict, result: Mapping[str, Any], head: BaseFusionHead, asked: Iterable[Combination], path: str
) -> list:
    """Matches of an image with each combination."""
    require_annotated(annotation)
    sample = DetDataSample()
    add_predictions(sample, result, (annotation['height'], annotation['width']), path)
    subject = subject_of(kept_evidence(sample), annotation, head)
    found = []
    for oracles in asked:
        evidence, order = mended(subject, oracles)
        panoptic, segments = head.fuse(evidence) if order is None else head.fuse(evidence, order=order)
        ids, infos = annotation['gt_panoptic_map'], annotation['segments_info']
        name = annotation['img_path']
        found.append(match_segments(ids, infos, panoptic.numpy(), segments, head.num_classes, name))
    return found


def _groups(stat: PQStat, categories: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    return {name: average(stat, categories, isthing) for name, isthing in GROUPS.items()}


def table_of(scores: Mapping[Combination, Mapping[str, Mapping[str, float]]], oracles: Sequence[str]) -> Table:
    """What :func:`score_combinations` gives, with gains: of one oracle over none, of a stack over the one before.

    Args:
        scores: See there.
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
    """What :func:`score_combinations` gives, for a JSON: a dict a combination with ``oracles`` and its scores."""
    return [dict(oracles=list(combination), **groups) for combination, groups in scores.items()]
