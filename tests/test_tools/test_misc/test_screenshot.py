"""tools/misc/screenshot.py: a page at an address, with the mouse where it is wanted."""

import sys

import cv2
import numpy as np
import pytest
from helpers.browser import SCREENSHOT, require_chromium
from helpers.repo import run_main

from mmpanoptic.utils import UserError

# As a report is, when its plots are drawn: a panel that is red under the mouse, and blue for one address.
PAGE = """<body data-plots=drawn style="margin: 0"><canvas data-title="ground truth" width=100 height=50></canvas>
<script>
if (location.hash === '#order=gain') document.body.style.background = '#0000ff';
document.querySelector('canvas').onmousemove = (event) => {
  document.body.style.background = event.clientX > 80 && event.clientY < 10 ? '#ff0000' : '#00ff00';
};
</script>"""


@pytest.fixture
def page(tmp_path):
    require_chromium()
    path = tmp_path / 'two.html'
    path.write_text(PAGE)
    return path


@pytest.mark.parametrize(
    ('arguments', 'bgr'),
    [
        ([], (255, 255, 255)),
        (['--address', 'order=gain'], (255, 0, 0)),
        (['--point', 'ground truth', 0.9, 0.1], (0, 0, 255)),
    ],
)
def test_what_is_seen(arguments, bgr, page, monkeypatch):
    out = page.parent / 'shot.png'
    run_main(SCREENSHOT, monkeypatch, page, out, '--size', 300, 200, *arguments)
    shot = cv2.imread(str(out))
    assert shot.shape == (200, 300, 3)
    np.testing.assert_array_equal(shot[150, 250], bgr)


def test_a_panel_that_is_not_there(page):
    with pytest.raises(UserError, match=r"two\.html at 'image=3' shows no panel 'epoch 2': open an image with one"):
        SCREENSHOT.picture_of(page, 'image=3', (300, 200), ('epoch 2', 0.5, 0.5))


def test_without_a_browser_or_its_driver(page, monkeypatch):
    monkeypatch.setitem(sys.modules, 'playwright.sync_api', None)
    with pytest.raises(UserError, match='pip install playwright'):
        SCREENSHOT.picture_of(page, '', (300, 200), None)
    monkeypatch.setenv('PATH', '')
    with pytest.raises(UserError, match='apt-get install chromium'):
        SCREENSHOT.picture_of(page, '', (300, 200), None)
