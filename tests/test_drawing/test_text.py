"""Text in pictures."""

import cv2
import numpy as np
import pytest

from mmpanoptic.drawing.text import put_text, text_box


def drawn(text, scale=1.0):
    width, height, _ = text_box(text, scale)
    picture = np.zeros((height + 20, width + 20, 3), np.uint8)
    put_text(picture, text, 10, 10, scale, (255, 255, 255))
    outside = picture.copy()
    outside[10 : 10 + height, 10 : 10 + width] = 0
    assert not outside.any()
    return picture[10 : 10 + height, 10 : 10 + width]


@pytest.mark.parametrize('scale', [0.42, 1.0, 2.5])
@pytest.mark.parametrize('text', ['Straße', 'дорога', 'δρόμος', 'cão 0.98', 'سيارة'])
def test_scripts_of_the_font_that_comes_along(text, scale):
    """Other letters than of OpenCV's question marks, of about the height of its own."""
    picture = drawn(text, scale)
    rows, _ = np.nonzero(picture.min(axis=2) < 128)
    assert len(rows) > 20 * scale
    assert picture.shape != drawn('?' * len(text.encode()), scale).shape
    assert np.ptp(rows) <= 1.6 * np.ptp(np.nonzero(drawn('Ag', scale).min(axis=2) < 128)[0]) + 2
    assert not np.array_equal(picture, drawn(text[::-1], scale))


def test_characters_of_no_font_are_codes():
    np.testing.assert_array_equal(drawn('a\U0010fffd'), drawn('a\\U0010fffd'))


def test_ascii_is_opencvs():
    (width, height), below = cv2.getTextSize('car 0.98', cv2.FONT_HERSHEY_SIMPLEX, 1.0, 1)
    assert text_box('car 0.98', 1.0) == (width + 2 * 6, height + below + 6, height + 3 + 1)
    assert text_box('cär 0.98', 1.0)[0] != width + 2 * 6
