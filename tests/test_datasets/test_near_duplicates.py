"""Images that look the same."""

import cv2
import numpy as np
import pytest

from mmpanoptic.datasets.near_duplicates import fingerprint, near_duplicates


def copies(image: np.ndarray) -> list[np.ndarray]:
    """The image as others would have it: of other sizes, compressed, a little darker."""
    made = []
    for factor, quality in ((0.5, 70), (1.6, 90), (0.8, 40)):
        resized = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        made.append(cv2.imdecode(cv2.imencode('.jpg', resized, (cv2.IMWRITE_JPEG_QUALITY, quality))[1], 1))
    return [*made, (image * 0.9).astype(np.uint8)]


@pytest.fixture(scope='module')
def images(shared_data) -> list[np.ndarray]:
    """Photos and micrographs, all of them different."""
    paths = sorted(shared_data.glob('coco_panoptic_sample/images/*'))[::2]
    return [cv2.imread(str(path)) for path in (*paths, *sorted(shared_data.glob('nuclei/*/images/*'))[::5])]


def test_different_images(images):
    looks = [fingerprint(image) for image in images]
    assert sum(look is None for look in looks) <= 1
    found = [pair for pair in near_duplicates(looks, looks) if pair[0] != pair[1]]
    assert found == []


def test_copies(images):
    images = images[::8]
    looks = [fingerprint(image) for image in images]
    for k in range(4):
        others = [fingerprint(copies(image)[k]) for image in images]
        assert near_duplicates(looks, others) == [(i, i) for i, look in enumerate(looks) if look is not None]


def test_flat_images_are_no_duplicates():
    flat = fingerprint(np.full((40, 60, 3), 7, np.uint8))
    assert flat is None and near_duplicates([flat], [flat]) == []
    noise = fingerprint(np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8))
    assert near_duplicates([flat, noise], [noise, flat, noise]) == [(1, 0), (1, 2)]
