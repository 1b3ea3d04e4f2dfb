"""The numbers of a report as plain values, from scores of files and the JSON of the ground truth."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mmpanoptic.evaluation.account import LOSSES
from mmpanoptic.formats.panoptic_json import dataset_meta, parse_categories
from mmpanoptic.structures.object_sizes import OBJECT_SIZES

GROUPS = ('All', 'Things', 'Stuff')
# Upper ends of bins (exclusive) and their names.
SIZES = tuple((end, name) for name, (_, end) in OBJECT_SIZES.items())
CROWDEDNESS = ((6, '1 to 5'), (11, '6 to 10'), (21, '11 to 20'), (np.inf, 'more than 20'))  # segments in an image
OCCLUSION = ((1e-9, 'none'), (0.25, 'up to 25 %'), (0.5, '25 to 50 %'), (np.inf, 'more than 50 %'))
MASK = 'mask'  # cause of the points that a match loses
Row = Mapping[str, Any]


def contents_of(
    result: Mapping[str, Any],
    rows: Sequence[Mapping[Any, Sequence[Row]]],
    gt_data: Mapping[str, Any],
    gt_json: str,
    names: Sequence[str],
) -> dict:
    """Everything that a report shows of one or two sets of predictions, except for pictures.

    Args:
        result: Scores from :func:`~mmpanoptic.evaluation.file_scores.score_files` with ``segments=True``.
        rows: For each set, its segments by image, see :func:`rows_by_image`.
        gt_data: The JSON of the ground truth.
        gt_json: Path of this JSON, for error messages.
        names: Names of the sets.

    Returns:
        A dict with:

        - ``names``, ``causes`` and ``notes``;
        - ``categories``: ``id``, ``name``, ``isthing`` and ``color`` of each, in the order of ``per_class``;
        - ``runs``: numbers of each set, see :func:`_run`;
        - ``difference``: scores of the first set minus those of the second, or None;
        - ``images``: for each image, ``id``, ``name``, ``segments`` (number in the ground truth) and, in lists with an
          entry for each set, ``quality`` (see :func:`quality`) and ``lost``, a list of [index of the class, cause,
          number of segments, points].
    """
    categories = parse_categories(gt_data['categories'], gt_json)
    palette = dataset_meta(categories)['palette']
    place_of = {category['id']: place for place, category in enumerate(categories)}
    segments = {
        annotation['image_id']: {segment['id']: segment for segment in annotation['segments_info']}
        for annotation in gt_data['annotations']
    }
    named = {image['id']: image['file_name'] for image in gt_data['images']}
    images = [
        dict(
            id=image,
            name=named[image],
            segments=len(segments[image]),
            quality=[quality(by_image[image]) for by_image in rows],
            lost=[_lost(by_image[image], place_of) for by_image in rows],
        )
        for image in segments
    ]
    return dict(
        names=list(names),
        causes=[*LOSSES],
        categories=[
            dict(id=c['id'], name=c['name'], isthing=c['isthing'], color=list(palette[c['label']])) for c in categories
        ],
        notes=list(result['notes']),
        runs=[
            _run(scores, categories, segments, by_image) for scores, by_image in zip(sets_of(result), rows, strict=True)
        ],
        difference=result.get('difference') and {group: result['difference'][group] for group in GROUPS},
        images=images,
    )


def sets_of(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The scores of each set of predictions."""
    return [result, *([result['against']] if 'against' in result else [])]


def rows_by_image(result: Mapping[str, Any]) -> list[dict[Any, list[Row]]]:
    """For each set, its segments by image, see :func:`~mmpanoptic.evaluation.account.lost_segments`.

    An image without segments gives an empty list.
    """
    found: list[dict[Any, list[Row]]] = [defaultdict(list) for _ in sets_of(result)]
    for by_image, scores in zip(found, sets_of(result), strict=True):
        for row in scores['segments']:
            by_image[row['image_id']].append(row)
    return found


def _run(result: Mapping, categories: Sequence[Mapping], segments: Mapping, rows: Mapping[Any, Sequence[Row]]) -> dict:
    """Numbers of one set.

    Returns:
        A dict with:

        - ``scores`` by group and a list ``classes``, in percent, with the ``interval`` of PQ or None;
        - ``points`` by group and cause, ``fn`` and ``fp`` by cause;
        - ``sizes``, ``occlusion`` and ``crowdedness``, lists of bins;
        - ``confusion``, see :func:`confusion`.
    """
    spans = result.get('intervals') or {}
    account = result['account']
    scores = {
        group: _percent(result['scores'][group]) | dict(interval=_span(spans, group), n=result['scores'][group]['n'])
        for group in GROUPS
    }
    classes = [
        _percent(values)
        | {key: values[key] for key in ('tp', 'fp', 'fn')}
        | dict(interval=_span(spans, category['id']), points=account['per_class'][category['id']]['points'])
        for category in categories
        for values in [result['scores']['per_class'][category['id']]]
    ]
    every = [row for image_rows in rows.values() for row in image_rows]
    return dict(
        scores=scores,
        classes=classes,
        points={group: account[group]['points'] for group in GROUPS},
        fn=account['All']['fn'],
        fp=account['All']['fp'],
        sizes=_found_by(every, segments, SIZES, lambda image, segment: segment['area']),
        occlusion=_found_by(every, segments, OCCLUSION, _occluded(segments, categories)),
        crowdedness=_by_crowdedness(rows, segments),
        confusion=confusion(every, [category['id'] for category in categories]),
    )


def _percent(values: Mapping[str, float]) -> dict[str, float]:
    return {key: 100 * values[key] for key in ('pq', 'sq', 'rq')}


def _span(spans: Mapping, name: Any) -> list[float] | None:
    """The interval of PQ in percent."""
    bounds = spans.get(name, {}).get('pq')
    return None if bounds is None else [100 * bound for bound in bounds]


def quality(rows: Sequence[Row]) -> float | None:
    """PQ of an image in percent, with all its segments counted as one class; None without segments.

    A mean over classes would be mostly 0 or 100, since an image has few segments of each class.
    """
    weight = sum(1.0 if row['kind'] == 'match' else 0.5 for row in rows)
    return 100 * sum(row['iou'] or 0.0 for row in rows) / weight if rows else None


def _lost(rows: Sequence[Row], place_of: Mapping) -> list[list]:
    points: defaultdict[tuple[int, str], float] = defaultdict(float)
    number: Counter[tuple[int, str]] = Counter()
    for row in (row for row in rows if row['points'] > 0):
        key = place_of[row['category_id']], row['cause'] or MASK
        points[key] += row['points']
        number[key] += 1
    return [[*key, number[key], round(points[key], 6)] for key in sorted(points, key=lambda key: (key[0], key[1]))]


def _place(value: float, bins: Sequence[tuple[float, str]]) -> int:
    return next(place for place, (end, _) in enumerate(bins) if value < end)


def _found_by(
    rows: Iterable[Row],
    segments: Mapping,
    bins: Sequence[tuple[float, str]],
    measure: Callable[[Any, dict], float | None],
) -> list[dict]:
    """Segments of the ground truth in bins of a measure. Segments whose measure is None are left out.

    Returns:
        For each bin, ``name``, ``number`` of segments, the share that is ``found`` and the mean ``iou`` of these, both
        in percent or None without segments.
    """
    ious: list[list[float]] = [[] for _ in bins]
    missed = [0] * len(bins)
    for row in rows:
        if row['kind'] == 'extra':
            continue
        value = measure(row['image_id'], segments[row['image_id']][row['gt_id']])
        if value is not None and row['kind'] == 'match':
            ious[_place(value, bins)].append(row['iou'])
        elif value is not None:
            missed[_place(value, bins)] += 1
    return [
        dict(
            name=name,
            number=len(found) + lost,
            found=100 * len(found) / (len(found) + lost) if found or lost else None,
            iou=100 * float(np.mean(found)) if found else None,
        )
        for (_, name), found, lost in zip(bins, ious, missed, strict=True)
    ]


def _occluded(segments: Mapping, categories: Sequence[Mapping]) -> Callable[[Any, dict], float | None]:
    """Function that returns the share of a thing's box that one other thing's box covers at most; None for stuff.

    A panoptic map does not show what is hidden, so overlapping boxes stand for occlusion.
    """
    things = {category['id'] for category in categories if category['isthing']}
    shares: dict[Any, dict[int, float]] = {}
    for image, by_id in segments.items():
        found = [segment for segment in by_id.values() if segment['category_id'] in things]
        if not found:
            continue
        boxes = np.array([segment['bbox'] for segment in found], float)
        ends = boxes[:, :2] + boxes[:, 2:]
        sides = np.minimum(ends[:, None], ends[None]) - np.maximum(boxes[:, None, :2], boxes[None, :, :2])
        shared = sides.clip(0).prod(axis=2)
        np.fill_diagonal(shared, 0)
        share = shared.max(axis=1) / boxes[:, 2:].prod(axis=1)
        shares[image] = dict(zip((segment['id'] for segment in found), share.tolist(), strict=True))
    return lambda image, segment: shares.get(image, {}).get(segment['id'])


def _by_crowdedness(rows: Mapping[Any, Sequence[Row]], segments: Mapping) -> list[dict]:
    """For each bin, ``number`` of images and their ``pq`` in percent, None without images."""
    bins: list[list[Row]] = [[] for _ in CROWDEDNESS]
    number = [0] * len(CROWDEDNESS)
    for image, by_id in segments.items():
        if by_id:
            place = _place(len(by_id), CROWDEDNESS)
            number[place] += 1
            bins[place] += rows[image]
    return [
        dict(name=name, number=images, pq=_mean_quality(bin_rows))
        for (_, name), images, bin_rows in zip(CROWDEDNESS, number, bins, strict=True)
    ]


def _mean_quality(rows: Iterable[Row]) -> float | None:
    by_class: dict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        by_class[row['category_id']].append(row)
    # Each class has a row, so that its quality is a number.
    return float(np.mean([quality(class_rows) for class_rows in by_class.values()])) if by_class else None


def confusion(rows: Iterable[Row], ids: Sequence[Any]) -> list[list[int]]:
    """Confusion matrix of classes. It counts pairs of segments with an IoU above 0.5, whatever their classes.

    Rows are the classes of the ground truth, then 'extra'; columns are the predicted classes, then 'missed'.

    Args:
        rows: All segments, see :func:`~mmpanoptic.evaluation.account.lost_segments`.
        ids: Category ids in the order of the matrix.
    """
    rows = list(rows)
    place = {category: index for index, category in enumerate(ids)}
    table = np.zeros((len(ids) + 1, len(ids) + 1), np.int64)
    predicted = {(row['image_id'], row['pred_id']): row['category_id'] for row in rows if row['kind'] == 'extra'}
    paired = set()
    for row in rows:
        label = place[row['category_id']]
        other = row['image_id'], row['pred_id']
        if row['kind'] == 'match':
            table[label, label] += 1
        elif row['kind'] == 'missed':
            wrong = ' as ' in row['cause'] and other in predicted
            table[label, place[predicted[other]] if wrong else -1] += 1
            paired |= {other} if wrong else set()
    for image, pred in predicted.keys() - paired:
        table[-1, place[predicted[image, pred]]] += 1
    return table.tolist()
