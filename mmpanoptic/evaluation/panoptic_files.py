"""Panoptic quality of predictions in files, as the official tool scores them."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mmpanoptic.formats.json_checks import check_types, entries
from mmpanoptic.formats.panoptic_json import annotations_by_image, parse_categories, parse_segments, read_json
from mmpanoptic.formats.panoptic_png import decode_panoptic_png
from mmpanoptic.utils import DatasetError, UserError

from .panoptic_quality import ImageMatches, accumulate, average, match_segments, per_class


def evaluate_files(
    gt_json: str | Path, gt_dir: str | Path, pred_json: str | Path, pred_dir: str | Path
) -> dict[str, dict[Any, Any]]:
    """Score predictions in COCO's panoptic format (https://cocodataset.org/#format-results) as the official tool does.

    Args:
        gt_json: The ground truth's panoptic JSON.
        gt_dir: Folder of the ground truth's PNGs.
        pred_json: The predictions' JSON: ``annotations`` with ``image_id``, ``file_name`` and ``segments_info``.
        pred_dir: Folder of the predictions' PNGs.

    Returns:
        ``All``, ``Things`` and ``Stuff`` as :func:`~.panoptic_quality.average` gives them; ``per_class`` as
        :func:`~.panoptic_quality.per_class` does.

    Raises:
        DatasetError: If the ground truth is missing, incomplete, or its PNGs and its JSON disagree.
        UserError: If an annotated image has no prediction or more than one, a predicted category is unknown, or the
            predictions' PNGs and their JSON disagree.
    """
    gt_data, pred_data = read_json(str(gt_json)), read_json(str(pred_json))
    categories = parse_categories(gt_data.get('categories'), str(gt_json))
    category_of = {category['id']: category for category in categories}
    predictions = _predictions_by_image(pred_data, str(pred_json))

    def matches() -> Iterable[ImageMatches]:
        for image, gt in annotations_by_image(gt_data, str(gt_json)):
            if gt is None:
                raise DatasetError(f'{gt_json} has no annotations: score against a file that has them')
            pred = predictions.get(gt['image_id'])
            if pred is None:
                raise UserError(
                    f'{pred_json} has no prediction for image {gt["image_id"]!r}: add one, with an empty map if need be'
                )
            size = image['height'], image['width']
            gt_png, pred_png = Path(gt_dir, gt['file_name']), Path(pred_dir, pred['file_name'])
            yield match_segments(
                _read_png(gt_png, size, gt_json, DatasetError),
                parse_segments(gt, category_of, str(gt_json)),
                _read_png(pred_png, size, pred_json, UserError),
                _predicted_segments(pred, category_of, f'{pred_json}: {pred["file_name"]}'),
                name=f'{gt["image_id"]!r} ({gt_png} against {pred_png})',
            )

    stat = accumulate(matches(), len(categories))
    averages = {name: average(stat, categories, of) for name, of in (('All', None), ('Things', True), ('Stuff', False))}
    return averages | {'per_class': per_class(stat, categories)}


def _predictions_by_image(data: Mapping[str, Any], path: str) -> dict[Any, Mapping[str, Any]]:
    predictions: dict[Any, Mapping[str, Any]] = {}
    for annotation in entries(data.get('annotations'), path, 'annotations', 'write one for each image'):
        where = f'{path}: the prediction for image {annotation.get("image_id")!r}'
        check_types(annotation, dict(image_id=(int, str), file_name=str, segments_info=list), where)
        if annotation['image_id'] in predictions:
            raise UserError(f'{path} has two predictions for image {annotation["image_id"]!r}: remove one')
        predictions[annotation['image_id']] = annotation
    return predictions


def _predicted_segments(
    annotation: Mapping[str, Any], category_of: Mapping[Any, Mapping[str, Any]], where: str
) -> list[dict[str, int]]:
    segments = []
    for segment in annotation['segments_info']:
        if not isinstance(segment, dict):
            raise UserError(f'{where}: segments_info holds {segment!r}: write objects with id and category_id')
        check_types(segment, dict(id=int, category_id=(int, str)), f'{where}: segment {segment.get("id")!r}')
        if segment['category_id'] not in category_of:
            raise UserError(
                f'{where}: segment {segment["id"]} has category_id {segment["category_id"]!r}, which the ground truth '
                'lacks: use its category ids'
            )
        segments.append({'id': segment['id'], 'label': category_of[segment['category_id']]['label']})
    return segments


def _read_png(path: Path, size: tuple[int, int], named_by: str | Path, error: type[UserError]) -> np.ndarray:
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as problem:  # a name can hold what no file's name can
        reason = problem.strerror if isinstance(problem, OSError) else problem
        raise error(f'{str(path)!r} cannot be read ({reason}): {named_by} names it') from None
    return decode_panoptic_png(data, str(path), size)
