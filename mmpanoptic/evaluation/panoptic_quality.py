"""Panoptic quality by the rules of COCO's evaluation, on arrays.

PQ = sum of IoUs of matched pairs / (TP + FP / 2 + FN / 2) for each class, averaged over the classes (Kirillov et al.,
Panoptic Segmentation, section 4, https://arxiv.org/abs/1801.00868). What the paper leaves open is settled as the
official tool settles it (https://cocodataset.org/#panoptic-eval):

- two segments match if they are of the same class and their IoU exceeds 0.5; void in the ground truth is taken out of
  the union;
- the ground truth's area is the one that its JSON states, the prediction's is counted;
- a crowd segment is neither matched nor missed;
- an unmatched prediction is no false positive if more than half of it lies on void and on the crowd segment of its own
  class; of several such crowd segments in an image the last listed one is taken;
- IoUs are added up one by one in float64, images in the order of the ground truth's ``annotations``, within an image by
  ascending (ground-truth id, predicted id); class values in the order of the JSON's ``categories``.

The last rule makes results equal to the official tool's (run in one process) to the last bit.
"""

from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmpanoptic.formats.panoptic_json import annotations_by_image, parse_categories, parse_segments, read_json
from mmpanoptic.formats.panoptic_png import decode_panoptic_png
from mmpanoptic.structures import MAX_ID, VOID_ID, ids_to_indices
from mmpanoptic.utils import DatasetError, UserError

MATCH_IOU = 0.5  # matching is unique only above one half (section 4.1 of the paper), so this is no parameter
IGNORED_SHARE = 0.5
_MAX_TABLE = 2**20  # cells of a dense table of co-occurring segments; beyond, only the pairs that occur are kept


class ImageMatches(NamedTuple):
    """What one image adds to the score; plain Python values, cheap to pickle.

    Attributes:
        tp: (label, IoU) of every matched pair, ascending by (ground-truth id, predicted id).
        fp: Labels of the false positives.
        fn: Labels of the missed ground-truth segments.
    """

    tp: list[tuple[int, float]]
    fp: list[int]
    fn: list[int]


class PQStat(NamedTuple):
    """Sums over a dataset by contiguous label; arrays of shape (num_classes,).

    Attributes:
        iou_sum: Sum of the IoUs of the matched pairs, float64.
        tp: Number of matched pairs, int64.
        fp: Number of false positives, int64.
        fn: Number of missed ground-truth segments, int64.
    """

    iou_sum: np.ndarray
    tp: np.ndarray
    fp: np.ndarray
    fn: np.ndarray


def match_segments(
    gt_ids: np.ndarray,
    gt_segments: Sequence[Mapping[str, Any]],
    pred_map: np.ndarray,
    pred_segments: Sequence[Mapping[str, Any]],
    void: int = VOID_ID,
    name: str = 'image',
) -> ImageMatches:
    """Match the predicted segments of one image with those of the ground truth.

    Args:
        gt_ids: Segment ids as in the panoptic PNG, any integer type, shape (H, W); 0 is void.
        gt_segments: Ground-truth segments in the order of the JSON: ``id``, ``label``, ``area`` (pixels), ``iscrowd``.
        pred_map: Predicted segment ids, any integer type, shape (H, W).
        pred_segments: Predicted segments: ``id`` and ``label``.
        void: The value of ``pred_map`` that belongs to no segment: 0 in files, ``num_classes`` in memory.
        name: What to call the image in an error.

    Returns:
        Matched pairs, false positives and missed segments.

    Raises:
        DatasetError: If the ground truth's map has an id that ``gt_segments`` lacks, ids repeat or do not fit into 24
            bits, or an area is smaller than the part of the segment that a prediction covers.
        UserError: If the maps differ in shape, the predicted map has an id that ``pred_segments`` lacks or the other
            way round, or predicted ids repeat.
    """
    if gt_ids.shape != pred_map.shape:
        raise UserError(
            f'{name}: the prediction is {pred_map.shape} (height, width), the ground truth {gt_ids.shape}: '
            'predict at the original image size'
        )
    gt_segments_by_id = sorted(gt_segments, key=itemgetter('id'))
    pred_segments_by_id = sorted(pred_segments, key=itemgetter('id'))
    gt_known = _checked_ids(gt_segments_by_id, VOID_ID, f'ground truth of {name}', DatasetError)
    pred_known = _checked_ids(pred_segments_by_id, void, f'prediction for {name}', UserError)

    gt_ids, pred_map, lengths = _runs(gt_ids, pred_map)
    rows = _indices(gt_ids, gt_known, f'ground truth of {name}', DatasetError)
    # Index 1 is void and 0 an id 0 that is listed nowhere, which cannot occur where void is 0.
    columns = _indices(pred_map, [void, *pred_known], f'prediction for {name}', UserError)
    num_columns = len(pred_known) + 2
    gt_index, pred_index, pixels = _count_pairs(rows, columns, lengths, len(gt_known) + 1, num_columns)

    pred_area = _sum_by(pred_index, pixels, num_columns)
    if pred_area[0]:
        raise UserError(f'prediction for {name} holds segment id 0 that its segments_info lacks: add it there')
    if not pred_area[2:].all():
        missing = pred_known[int(np.flatnonzero(pred_area[2:] == 0)[0])]
        raise UserError(f'prediction for {name} lists segment id {missing} that its map lacks: drop it from the list')

    gt_label = np.array([-1, *(s['label'] for s in gt_segments_by_id)])
    pred_label = np.array([-2, -2, *(s['label'] for s in pred_segments_by_id)])
    gt_area = np.array([0, *(s['area'] for s in gt_segments_by_id)])
    is_crowd = np.array([False, *(s['iscrowd'] == 1 for s in gt_segments_by_id)])
    on_void = gt_index == 0
    same_class = gt_label[gt_index] == pred_label[pred_index]
    void_area = _sum_by(pred_index[on_void], pixels[on_void], num_columns)

    candidates = np.flatnonzero(same_class & ~is_crowd[gt_index])
    gt_cand, pred_cand, shared = gt_index[candidates], pred_index[candidates], pixels[candidates]
    union = pred_area[pred_cand] + gt_area[gt_cand] - shared - void_area[pred_cand]
    if (union <= 0).any():
        wrong = gt_segments_by_id[int(gt_cand[union <= 0][0]) - 1]
        raise DatasetError(
            f'ground truth of {name}: segment id {wrong["id"]} has area {wrong["area"]} in the JSON but more pixels in '
            'the map: correct the area'
        )
    iou = shared / union
    matched = iou > MATCH_IOU
    gt_matched, pred_matched = gt_cand[matched], pred_cand[matched]

    last_crowd = {s['label']: s['id'] for s in gt_segments if s['iscrowd'] == 1}
    takes_crowd = np.array([False, *(last_crowd.get(s['label']) == s['id'] for s in gt_segments_by_id)])
    ignored = on_void | (same_class & takes_crowd[gt_index])
    ignored_area = _sum_by(pred_index[ignored], pixels[ignored], num_columns)
    is_fp = ignored_area[2:] / pred_area[2:] <= IGNORED_SHARE
    is_fp[pred_matched - 2] = False
    is_fn = ~is_crowd
    is_fn[0] = False
    is_fn[gt_matched] = False
    return ImageMatches(
        tp=list(zip(gt_label[gt_matched].tolist(), iou[matched].tolist(), strict=True)),
        fp=pred_label[2:][is_fp].tolist(),
        fn=gt_label[is_fn].tolist(),
    )


def _checked_ids(segments: Sequence[Mapping[str, Any]], void: int, whose: str, error: type[UserError]) -> list[int]:
    """Ids of segments that are sorted by id, after a check that they are distinct, of 24 bits and not void."""
    ids = [s['id'] for s in segments]
    for before, this in zip([None, *ids], ids, strict=False):
        if this == before:
            raise error(f'{whose} lists segment id {this} twice: give every segment an id of its own')
        if this == void or not 0 <= this <= MAX_ID:
            raise error(f'{whose} lists segment id {this}: ids lie between 0 and {MAX_ID}, and {void} is void')
    return ids


def _runs(gt_ids: np.ndarray, pred_map: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Runs of pixels, in reading order, over which both maps are constant: their values and lengths.

    A map has a hundred times fewer runs than pixels, and comparing neighbours is the cheapest pass over pixels there
    is. Of maps without structure the pixels themselves are returned, and None for the lengths.
    """
    gt_ids, pred_map = gt_ids.ravel(), pred_map.ravel()
    starts_run = np.ones(gt_ids.size, bool)
    np.not_equal(gt_ids[1:], gt_ids[:-1], out=starts_run[1:])
    starts_run[1:] |= pred_map[1:] != pred_map[:-1]
    if np.count_nonzero(starts_run) > gt_ids.size // 4:
        return gt_ids, pred_map, None
    starts = np.flatnonzero(starts_run)
    return gt_ids[starts], pred_map[starts], np.diff(starts, append=gt_ids.size)


def _indices(ids: np.ndarray, known: Sequence[int], whose: str, error: type[UserError]) -> np.ndarray:
    try:
        for extreme in (int(ids.min(initial=VOID_ID)), int(ids.max(initial=VOID_ID))):
            if not 0 <= extreme <= MAX_ID:
                raise KeyError(extreme)
        return ids_to_indices(ids, known)
    except KeyError as stranger:
        raise error(f'{whose} holds segment id {stranger.args[0]} that its segments_info lacks: add it there') from None


def _count_pairs(
    rows: np.ndarray, columns: np.ndarray, lengths: np.ndarray | None, num_rows: int, num_columns: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs (row, column) that occur, ascending, and the pixels of each."""
    pairs = rows.astype(np.int64)
    pairs *= num_columns
    pairs += columns
    if num_rows * num_columns > _MAX_TABLE:
        occurring, pairs = np.unique(pairs, return_inverse=True)
        pixels = _sum_by(pairs, lengths, len(occurring))
    else:
        table = _sum_by(pairs, lengths, num_rows * num_columns)
        occurring = np.flatnonzero(table)
        pixels = table[occurring]
    return *np.divmod(occurring, num_columns), pixels


def _sum_by(index: np.ndarray, pixels: np.ndarray | None, size: int) -> np.ndarray:
    """Number of pixels by index, int64 of shape (size,); the float64 in between is exact below 2**53."""
    return np.bincount(index, pixels, size).astype(np.int64)


def accumulate(matches: Iterable[ImageMatches], num_classes: int) -> PQStat:
    """Add up the images of a dataset, in their given order, which has to be that of the ground truth's annotations.

    Raises:
        UserError: If a label is not in [0, num_classes).
    """
    iou_sum = [0.0] * num_classes
    counts = {kind: [0] * num_classes for kind in ('tp', 'fp', 'fn')}
    for image in matches:
        for label, iou in image.tp:
            _check_label(label, num_classes)
            iou_sum[label] += iou
            counts['tp'][label] += 1
        for kind in ('fp', 'fn'):
            for label in getattr(image, kind):
                _check_label(label, num_classes)
                counts[kind][label] += 1
    return PQStat(np.array(iou_sum, np.float64), **{k: np.array(v, np.int64) for k, v in counts.items()})


def _check_label(label: int, num_classes: int) -> None:
    if not 0 <= label < num_classes:
        raise UserError(f'a segment has label {label}, but there are {num_classes} classes: check the class list')


def per_class(stat: PQStat, categories: Sequence[Mapping[str, Any]]) -> dict[Any, dict[str, float | int]]:
    """Quality of every class.

    Args:
        stat: Sums by label.
        categories: Categories with ``id`` and ``label``.

    Returns:
        By category id, in the order given: ``pq``, ``sq``, ``rq`` (0 to 1; 0.0 for a class that occurs neither in the
        ground truth nor in the predictions), ``iou_sum``, ``tp``, ``fp``, ``fn``.
    """
    results = {}
    for category in categories:
        iou_sum, tp, fp, fn = (values[category['label']].item() for values in stat)
        weight = tp + 0.5 * fp + 0.5 * fn
        results[category['id']] = {
            'pq': iou_sum / weight if weight else 0.0,
            'sq': iou_sum / tp if tp else 0.0,
            'rq': tp / weight if weight else 0.0,
            'iou_sum': iou_sum,
            'tp': tp,
            'fp': fp,
            'fn': fn,
        }
    return results


def average(
    stat: PQStat, categories: Sequence[Mapping[str, Any]], isthing: bool | None = None
) -> dict[str, float | int]:
    """Mean quality over the classes that occur in the ground truth or in the predictions.

    Args:
        stat: Sums by label.
        categories: Categories in the order of the JSON: ``id``, ``label``, ``isthing``.
        isthing: Things only (True), stuff only (False) or all classes (None).

    Returns:
        ``pq``, ``sq``, ``rq`` (0 to 1) and ``n``, the number of classes averaged; with n = 0 the others are 0.0.
    """
    chosen = [c for c in categories if isthing is None or bool(c['isthing']) == isthing]
    occurring = [r for r in per_class(stat, chosen).values() if r['tp'] + r['fp'] + r['fn']]
    n = len(occurring)
    result: dict[str, float | int] = {}
    for key in ('pq', 'sq', 'rq'):
        total = 0.0
        for values in occurring:  # one by one: the built-in sum compensates rounding from Python 3.12 on
            total += values[key]
        result[key] = total / n if n else 0.0
    return result | {'n': n}


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
        ``All``, ``Things`` and ``Stuff`` as :func:`average` gives them; ``per_class`` as :func:`per_class` does.

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
        for _, gt in annotations_by_image(gt_data, str(gt_json)):
            if gt is None:
                raise DatasetError(f'{gt_json} has no annotations: score against a file that has them')
            pred = predictions.get(gt['image_id'])
            if pred is None:
                raise UserError(
                    f'{pred_json} has no prediction for image {gt["image_id"]!r}: add one, with an empty map if need be'
                )
            gt_png, pred_png = Path(gt_dir, gt['file_name']), Path(pred_dir, pred['file_name'])
            yield match_segments(
                _read_png(gt_png, DatasetError),
                parse_segments(gt, category_of, str(gt_json)),
                _read_png(pred_png, UserError),
                _predicted_segments(pred, category_of, f'{pred_json}: {pred["file_name"]}'),
                name=f'{gt["image_id"]!r} ({gt_png} against {pred_png})',
            )

    stat = accumulate(matches(), len(categories))
    averages = {name: average(stat, categories, of) for name, of in (('All', None), ('Things', True), ('Stuff', False))}
    return averages | {'per_class': per_class(stat, categories)}


def _predictions_by_image(data: Mapping[str, Any], path: str) -> dict[Any, Mapping[str, Any]]:
    predictions: dict[Any, Mapping[str, Any]] = {}
    for annotation in data.get('annotations', []):
        for key in ('image_id', 'file_name', 'segments_info'):
            if key not in annotation:
                raise UserError(f'{path}: the prediction for image {annotation.get("image_id")!r} lacks `{key}`')
        if annotation['image_id'] in predictions:
            raise UserError(f'{path} has two predictions for image {annotation["image_id"]!r}: remove one')
        predictions[annotation['image_id']] = annotation
    return predictions


def _predicted_segments(
    annotation: Mapping[str, Any], category_of: Mapping[Any, Mapping[str, Any]], where: str
) -> list[dict[str, int]]:
    segments = []
    for segment in annotation['segments_info']:
        if 'id' not in segment or 'category_id' not in segment:
            raise UserError(f'{where}: segment {segment} lacks `id` or `category_id`')
        if segment['category_id'] not in category_of:
            raise UserError(
                f'{where}: segment {segment["id"]} has category_id {segment["category_id"]!r}, which the ground truth '
                'lacks: use its category ids'
            )
        segments.append({'id': segment['id'], 'label': category_of[segment['category_id']]['label']})
    return segments


def _read_png(path: Path, error: type[UserError]) -> np.ndarray:
    try:
        return decode_panoptic_png(path.read_bytes(), str(path))
    except OSError as problem:
        raise error(f'{path} cannot be read ({problem.strerror}): its JSON names it') from None
