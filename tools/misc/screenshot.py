"""Take a picture of a report for docs in headless Chromium, at an address, perhaps with the mouse on a panel.

python tools/misc/screenshot.py report.html OUT.png [--address 'order=loss&image=3'] [--size 1200 900]
    [--point 'ground truth' 0.4 0.6]

It needs Chromium and playwright, like the test suite: apt-get install chromium, pip install playwright.
"""

import argparse
import io
import json
import shutil
from pathlib import Path

from PIL import Image

from mmpanoptic.engine import cli
from mmpanoptic.utils import UserError, require_file, require_folder, write_whole

PROGRAMS = ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Take a picture of a report')
    parser.add_argument('page', help='report.html')
    parser.add_argument('out', help='PNG to write')
    parser.add_argument('--address', default='', help='state of the page: the part of its address after the #')
    parser.add_argument(
        '--size', type=int, nargs=2, default=(1200, 900), metavar=('WIDTH', 'HEIGHT'), help='pixels (default: 1200 900)'
    )
    parser.add_argument(
        '--point',
        nargs=3,
        metavar=('PANEL', 'X', 'Y'),
        help='panel under the mouse, and position as shares of its size',
    )
    return parser.parse_args()


def browser_program() -> str | None:
    """Path of Chromium on this machine; None if it is not installed."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


def picture_of(page: Path, address: str, size: tuple[int, int], point: tuple[str, float, float] | None) -> bytes:
    """A PNG of 256 colours, scrolled to the open image or, if no image is open, to the top of the page.

    Raises:
        UserError: If Chromium or playwright is not installed, or no such panel is open.
    """
    program = browser_program()
    if program is None:
        raise UserError(f'none of {", ".join(PROGRAMS)} is installed: apt-get install chromium')
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        raise UserError('the browser is driven by playwright: pip install playwright') from None
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program)
        opened = browser.new_page(viewport=dict(width=size[0], height=size[1]))
        opened.goto(f'{page.resolve().as_uri()}#{address}')
        opened.wait_for_selector('body[data-plots=drawn]')
        if point is not None:
            panel = opened.locator(f'canvas[data-title={json.dumps(point[0])}]')
            try:
                panel.wait_for(timeout=5000)  # ms
            except Error:
                raise UserError(f'{page} at {address!r} shows no panel {point[0]!r}: open an image with one') from None
            box = panel.bounding_box()
            panel.hover(position=dict(x=point[1] * box['width'], y=point[2] * box['height']))
        picture = opened.screenshot()
        browser.close()
    palette = io.BytesIO()
    Image.open(io.BytesIO(picture)).convert('RGB').quantize(256).save(palette, 'PNG', optimize=True)
    return palette.getvalue()


def main() -> None:
    args = parse_args()
    require_file(args.page, 'page')
    require_folder(str(Path(args.out).parent), 'out')
    point = args.point and (args.point[0], float(args.point[1]), float(args.point[2]))
    write_whole(args.out, picture_of(Path(args.page), args.address, tuple(args.size), point))


if __name__ == '__main__':
    cli.run(main)
