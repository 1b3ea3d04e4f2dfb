"""Errors injected into real ground truth: the account recovers their numbers and the official tool's points."""

from collections import Counter

import numpy as np
import pytest

from mmpanoptic.evaluation.account import CAUSES, balance, find_causes, ledger_of
from mmpanoptic.evaluation.panoptic_quality import match_counts
from mmpanoptic.evaluation.segment_counts import count_segments, join_counts
from mmpanoptic.formats.panoptic_json import annotations_by_image, parse_categories, parse_segments, read_json
from mmpanoptic.formats.panoptic_png import decode_panoptic_png

LEAST_AREA = 100
NEW_ID = 2**24 - 1


@pytest.fixture(scope='module')
def real_images(shared_data):
    """Maps and segments of 20 images, and the categories."""
    folder = shared_data / 'coco_panoptic_sample'
    path = folder / 'panoptic.json'
    data = read_json(str(path))
    categories = parse_categories(data['categories'], str(path))
    category_of = {category['id']: category for category in categories}
    images = []
    for _, annotation in annotations_by_image(data, str(path))[:20]:
        png = folder / 'panoptic' / annotation['file_name']
        ids = decode_panoptic_png(png.read_bytes(), str(png))
        images.append((ids, parse_segments(annotation, category_of, str(path))))
    return images, categories


class Image:
    """One image whose prediction starts as the ground truth, crowds void."""

    def __init__(self, ids, segments):
        self.gt_ids, self.gt_segments = ids, segments
        self.pred = ids.copy()
        self.labels = {s['id']: s['label'] for s in segments if not s['iscrowd']}
        for segment in segments:
            if segment['iscrowd']:
                self.pred[ids == segment['id']] = 0
        self.sizes = {s['id']: s['area'] for s in segments if s['id'] in self.labels}
        self.next_id = NEW_ID

    def new(self, label):
        self.next_id -= 1
        self.labels[self.next_id] = label
        return self.next_id

    def counts(self):
        segments = [{'id': id, 'label': label} for id, label in self.labels.items()]
        return count_segments(self.gt_ids, self.gt_segments, self.pred, segments)


def pixels(image, segment_id):
    return np.flatnonzero(image.gt_ids == segment_id)


def drop(image, segment_id, isthing):
    image.pred.ravel()[pixels(image, segment_id)] = 0
    label = image.labels.pop(segment_id)
    return [(label, 'missed')], []


def relabel(image, segment_id, isthing):
    label = image.labels[segment_id]
    image.labels[segment_id] = other = (label + 1) % len(isthing)
    names = {True: 'thing', False: 'stuff'}
    cause = f'{names[isthing[label]]} as {names[isthing[other]]}'
    return [(label, cause)], [(other, cause)]


def split(image, segment_id, isthing):
    label = image.labels[segment_id]
    _, second, third = np.array_split(pixels(image, segment_id), 3)
    for piece in (second, third):
        image.pred.ravel()[piece] = image.new(label)
    return [(label, 'split')], [(label, 'split')] * 3


def shrink(image, segment_id, isthing):
    where = pixels(image, segment_id)
    image.pred.ravel()[where[len(where) * 2 // 5 :]] = 0
    label = image.labels[segment_id]
    return [(label, 'nearly')], [(label, 'nearly')]


def add(image, segment_id, isthing):
    """A tenth of a segment goes to one of a class that the image lacks."""
    present = {s['label'] for s in image.gt_segments}
    label = next(label for label in range(len(isthing)) if label not in present)
    where = pixels(image, segment_id)
    image.pred.ravel()[where[: len(where) // 10]] = image.new(label)
    return [], [(label, 'hallucinated')]


def erode(image, segment_id, isthing):
    where = pixels(image, segment_id)
    image.pred.ravel()[where[: len(where) // 4]] = 0
    return [], []


ERRORS = (drop, relabel, split, shrink, add, erode)


def account_of(images, categories):
    counts = join_counts([image.counts() for image in images])
    matching = match_counts(counts)
    isthing = np.array([c['isthing'] for c in sorted(categories, key=lambda c: c['label'])])
    return ledger_of(counts, matching, find_causes(counts, matching, isthing), len(categories))


@pytest.mark.parametrize('error', ERRORS, ids=lambda error: error.__name__)
def test_one_kind_of_error(error, real_images):
    found, categories = real_images
    isthing = [bool(c['isthing']) for c in sorted(categories, key=lambda c: c['label'])]
    rng = np.random.default_rng(0)
    images, missed, extra, lacking = [Image(*image) for image in found], [], [], Counter()
    for image in images:
        large = [id for id, area in image.sizes.items() if area >= LEAST_AREA]
        for segment_id in rng.permutation(large)[:3].tolist():
            label, area = image.labels[segment_id], image.sizes[segment_id]
            fn, fp = error(image, segment_id, isthing)
            missed += fn
            extra += fp
            lacking[label] += {add: area // 10, erode: area // 4}.get(error, 0) / area
    ledger = account_of(images, categories)
    for table, expected in ((ledger.fn, missed), (ledger.fp, extra)):
        listed = Counter({(int(c), CAUSES[k]): int(table[c, k]) for c, k in zip(*np.nonzero(table), strict=True)})
        assert listed == Counter(expected)
    assert len(missed) + len(extra) >= (0 if error is erode else 30)
    np.testing.assert_allclose(ledger.masks[:, 0], [lacking[c] for c in range(len(isthing))], rtol=0, atol=1e-9)
    assert (ledger.masks[:, 1] == 0).all()
    check_points(ledger, categories, missed, extra, lacking)


def check_points(ledger, categories, missed, extra, lacking):
    """Every point, from the numbers of errors and of segments alone."""
    account = balance(ledger, categories)
    for category in categories:
        label, entry = category['label'], account['per_class'][category['id']]
        weight = ledger.tp[label] + sum(of == label for of, _ in (*missed, *extra)) / 2
        if not weight:
            assert entry['n'] == 0
            continue
        lost = Counter(cause for of, cause in (*missed, *extra) if of == label)
        expected = {cause: 50 * number / weight for cause, number in lost.items()}
        expected['mask too small'] = 100 * lacking[label] / weight
        for cause, points in entry['points'].items():
            assert points == pytest.approx(expected.get(cause, 0), abs=1e-9), (category['name'], cause)
        assert sum(entry['points'].values()) == pytest.approx(100 - entry['pq'], abs=1e-9)
    assert sum(account['All']['points'].values()) == pytest.approx(100 - account['All']['pq'], abs=1e-9)


def test_merged(real_images):
    """Two segments of a class as one: the larger one is found, too large; of equals none is."""
    found, categories = real_images
    images, merges = [Image(*image) for image in found], 0
    for image in images:
        by_label = {}
        for id, label in image.labels.items():
            by_label.setdefault(label, []).append(id)
        for ids in by_label.values():
            if len(ids) > 1:
                first, second = ids[:2]
                image.pred.ravel()[pixels(image, second)] = first
                del image.labels[second]
                merges += 1
    ledger = account_of(images, categories)
    merged = CAUSES.index('merged')
    assert merges > 10
    assert ledger.fn[:, merged].sum() - ledger.fp[:, merged].sum() == merges
    assert ledger.fn.sum() == ledger.fn[:, merged].sum()
    assert ledger.fp.sum() == ledger.fp[:, merged].sum()
    assert ledger.masks[:, 1].sum() > 0
    assert (ledger.masks[:, 0] == 0).all()
