"""Panoptic quality of predictions in files, as the official tool scores them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from mmpanoptic.formats.file_sources import FileSource, read_json_of
from mmpanoptic.formats.json_checks import check_types, entries
from mmpanoptic.formats.panoptic_json import annotations_by_image, parse_categories, parse_segments
from mmpanoptic.formats.panoptic_png import decode_panoptic_png
from mmpanoptic.results.coco import Category, CocoImage, Id, PanopticAnnotation
from mmpanoptic.utils import DatasetError, UserError

from .found_instances import Instance, found_segments, read_instances
from .panoptic_quality import Matching, average, match_counts, per_class, stat_of
from .segment_counts import Counts, count_segments, join_counts

Mapper = Callable[[Callable[[Any], Any], Sequence[Any]], Iterable[Any]]


class FileCounts(NamedTuple):
    """Counts of files of ground truth and predictions.

    Attributes:
        categories: Parsed categories in the order of the ground truth's JSON.
        images: The ground truth's images in the order of its ``annotations``.
        sets: Counts over all images for each set of predictions.
        was_found: Whether each ground-truth segment was found as an instance before the fusion, bool by place; None if
            no instances were given.
        notes: Remarks that are no errors, such as predictions for images without ground truth.
    """

    categories: list[Category]
    images: list[CocoImage]
    sets: list[Counts]
    was_found: np.ndarray | None
    notes: list[str]


class _Job(NamedTuple):
    """One image: its size, the annotations of the ground truth and of each set of predictions, instances if any."""

    size: tuple[int, int]
    gt: PanopticAnnotation
    predicted: list[PanopticAnnotation]
    instances: list[Instance] | None


def evaluate_files(
    gt_json: str | Path, gt_dir: str | Path, pred_json: str | Path, pred_dir: str | Path
) -> dict[str, dict[Any, Any]]:
    """Score predictions in COCO's panoptic format (https://cocodataset.org/#format-results) as the official tool does.

    Args:
        gt_json: The ground truth's panoptic JSON, or a zip with one in it.
        gt_dir: Folder or zip of the ground truth's PNGs.
        pred_json: The predictions' JSON: ``annotations`` with ``image_id``, ``file_name`` and ``segments_info``; or a
            zip with one in it.
        pred_dir: Folder or zip of the predictions' PNGs.

    Returns:
        ``All``, ``Things`` and ``Stuff``, see :func:`~.panoptic_quality.average`; and ``per_class``, see
        :func:`~.panoptic_quality.per_class`.

    Raises:
        DatasetError: If the ground truth is missing, incomplete, or its PNGs and its JSON disagree.
        UserError: If an annotated image has no prediction or more than one, a predicted category is unknown, or the
            predictions' PNGs and their JSON disagree.
    """
    counted = count_files(gt_json, gt_dir, [(pred_json, pred_dir)])
    counts = counted.sets[0]
    return scores_of(counts, counted.categories, match_counts(counts))


def scores_of(counts: Counts, categories: Sequence[Mapping[str, Any]], matching: Matching) -> dict[str, dict[Any, Any]]:
    """The result of :func:`evaluate_files` from counts and matches."""
    stat = stat_of(counts, matching, len(categories))
    averages = {name: average(stat, categories, of) for name, of in (('All', None), ('Things', True), ('Stuff', False))}
    return averages | {'per_class': per_class(stat, categories)}


def count_files(
    gt_json: str | Path,
    gt_dir: str | Path,
    predictions: Sequence[tuple[str | Path, str | Path]],
    mapper: Mapper = map,
    instances: tuple[str | Path, float] | None = None,
) -> FileCounts:
    """Count the pixels that segments share. Every PNG is decoded once.

    Args:
        gt_json: See :func:`evaluate_files`.
        gt_dir: See :func:`evaluate_files`.
        predictions: (JSON, folder) of each set of predictions.
        mapper: ``mapper(function, jobs)`` calls a picklable function for every job, in any process, and gives the
            results in order.
        instances: Results of instance segmentation that the first set of predictions was fused from, and the lowest
            score of those to use (:func:`~.found_instances.read_instances`).

    Raises:
        UserError: See :func:`evaluate_files`.
    """
    gt_data = read_json_of(gt_json)
    categories = parse_categories(gt_data.get('categories'), str(gt_json))
    pairs = [(image, gt) for image, gt in annotations_by_image(gt_data, str(gt_json)) if gt is not None]
    if not pairs:
        raise DatasetError(f'{gt_json} has no annotations: score against a file that has them')
    by_image = [_predictions_by_image(read_json_of(path), str(path)) for path, _ in predictions]
    notes = []
    for (path, _), predicted in zip(predictions, by_image, strict=True):
        extra = predicted.keys() - {image['id'] for image, _ in pairs}
        if extra:
            notes.append(f'{path}: {len(extra)} predictions are of images that {gt_json} lacks, and are not scored')
    images = [image for image, _ in pairs]
    found = None if instances is None else read_instances(instances[0], categories, images, instances[1])
    jobs = [
        _Job(
            (image['height'], image['width']),
            gt,
            [_prediction_of(gt, of, str(path)) for (path, _), of in zip(predictions, by_image, strict=True)],
            None if found is None else found.get(image['id'], []),
        )
        for image, gt in pairs
    ]
    count = partial(
        _count_image,
        category_of={category['id']: category for category in categories},
        gt_from=(str(gt_json), FileSource(gt_dir)),
        predicted_from=[(str(path), FileSource(folder)) for path, folder in predictions],
    )
    counted = list(mapper(count, jobs))
    sets = [join_counts([of_sets[k] for of_sets, _ in counted]) for k in range(len(predictions))]
    was_found = None if found is None else np.concatenate([[False], *(places[1:] for _, places in counted)])
    return FileCounts(categories, images, sets, was_found, notes)


def _count_image(
    job: _Job,
    category_of: Mapping[Id, Category],
    gt_from: tuple[str, FileSource],
    predicted_from: Sequence[tuple[str, FileSource]],
) -> tuple[list[Counts], np.ndarray | None]:
    gt_json, gt_files = gt_from
    gt_name = job.gt['file_name']
    gt_png = decode_panoptic_png(gt_files.read(gt_name, gt_json, DatasetError), gt_files.place(gt_name), job.size)
    gt_segments = parse_segments(job.gt, category_of, gt_json)
    counted = []
    for prediction, (pred_json, files) in zip(job.predicted, predicted_from, strict=True):
        name = prediction['file_name']
        pred_png = decode_panoptic_png(files.read(name, pred_json), files.place(name), job.size)
        segments = _predicted_segments(prediction, category_of, f'{pred_json}: {name}')
        shown = f'{job.gt["image_id"]!r} ({gt_files.place(gt_name)} against {files.place(name)})'
        counted.append(count_segments(gt_png, gt_segments, pred_png, segments, name=shown))
    return counted, None if job.instances is None else found_segments(gt_png, gt_segments, job.instances)


def _prediction_of(gt: PanopticAnnotation, predicted: Mapping[Id, PanopticAnnotation], path: str) -> PanopticAnnotation:
    if gt['image_id'] not in predicted:
        raise UserError(f'{path} has no prediction for image {gt["image_id"]!r}: add one, with an empty map if need be')
    return predicted[gt['image_id']]


def _predictions_by_image(data: Mapping[str, Any], path: str) -> dict[Id, PanopticAnnotation]:
    predictions: dict[Id, PanopticAnnotation] = {}
    for annotation in entries(data.get('annotations'), path, 'annotations', 'write one for each image'):
        where = f'{path}: the prediction for image {annotation.get("image_id")!r}'
        check_types(annotation, dict(image_id=(int, str), file_name=str, segments_info=list), where)
        if annotation['image_id'] in predictions:
            raise UserError(f'{path} has two predictions for image {annotation["image_id"]!r}: remove one')
        predictions[annotation['image_id']] = cast(PanopticAnnotation, annotation)
    return predictions


def _predicted_segments(
    annotation: PanopticAnnotation, category_of: Mapping[Id, Category], where: str
) -> list[dict[str, int]]:
    segments = []
    for segment in annotation['segments_info']:
        if not isinstance(segment, dict):
            raise UserError(f'{where}: segments_info holds {segment!r}: write objects with id and category_id')
        check_types(segment, dict(id=int, category_id=(int, str)), f'{where}: segment {segment.get("id")!r}')
        if segment['category_id'] not in category_of:
            raise UserError(
                f'{where}: segment {segment["id"]} has category_id {segment["category_id"]!r}, which the ground truth '
                'lacks: use its category ids, which are no labels that count from 0'
            )
        segments.append({'id': segment['id'], 'label': category_of[segment['category_id']]['label']})
    return segments
