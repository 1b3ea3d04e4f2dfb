"""Text in pictures, in any script that a font of this machine has.

OpenCV draws what is ASCII. Everything else is drawn by Pillow, in the first font that has all its characters: that of
matplotlib (Latin, Greek, Cyrillic and more), then those that are installed. Characters of no font are written as their
codes; fonts for Chinese, Japanese and Korean are in the Noto CJK packages of Linux distributions.
"""

import functools
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_PIXELS = 30  # size of other fonts whose capitals are as high as OpenCV's at scale 1


def text_scale(shape: Sequence[int], smallest: float = 0.42, pixels_per_scale: float = 1100) -> float:
    """OpenCV's font scale that reads well on a picture of this (height, width): it grows with the short side."""
    return max(smallest, min(shape[:2]) / pixels_per_scale)


def contrasting(color: Sequence[int]) -> tuple[int, int, int]:
    """Black or white, whichever stands out more against a colour, by its luma (ITU-R BT.601)."""
    return (0, 0, 0) if np.dot(color, (0.299, 0.587, 0.114)) > 140 else (255, 255, 255)


def text_box(text: str, scale: float) -> tuple[int, int, int]:
    """Width and height of a text with its margins, and the offset from its top to its base line, in pixels."""
    font = _font_of(text, scale)
    if font is None:
        (width, height), below = cv2.getTextSize(_escaped(text), _FONT, scale, _thickness(scale))
    else:
        width, (height, below) = round(font.getlength(text)), font.getmetrics()
    margin = _margin(scale)
    return width + 2 * margin, height + below + margin, height + margin // 2 + 1


def put_text(picture: np.ndarray, text: str, x: int, y: int, scale: float, color: Sequence[int]) -> None:
    """Write a text with its background box, the top left corner of the box at (x, y)."""
    width, height, base = text_box(text, scale)
    picture[y : y + height, x : x + width] = color
    margin, font = _margin(scale), _font_of(text, scale)
    if font is None:
        place = (x + margin, y + base)
        cv2.putText(picture, _escaped(text), place, _FONT, scale, contrasting(color), _thickness(scale), cv2.LINE_AA)
        return
    box = picture[y : y + height, x : x + width]
    drawn = Image.fromarray(np.ascontiguousarray(box))
    ImageDraw.Draw(drawn).text((margin, base), text, contrasting(color), font, anchor='ls')
    box[:] = drawn


def _thickness(scale: float) -> int:
    return max(1, round(1.4 * scale))


def _margin(scale: float) -> int:
    return max(2, round(6 * scale))


def _escaped(text: str) -> str:
    return text.encode('ascii', 'backslashreplace').decode()


def _font_of(text: str, scale: float) -> ImageFont.FreeTypeFont | None:
    """The font to draw a text in; None for OpenCV's."""
    file = None if text.isascii() else _file_of(''.join(sorted(set(text))))
    return None if file is None else ImageFont.truetype(file, max(8, round(_PIXELS * scale)))


@functools.lru_cache(maxsize=1024)
def _file_of(characters: str) -> str | None:
    """A file of a font that has all the characters."""
    from matplotlib import font_manager  # few texts need it, and it looks for fonts when it is imported

    installed = sorted(font_manager.findSystemFonts())
    files = [font_manager.findfont('DejaVu Sans'), *installed]
    return next((file for file in files if _characters_of(file).issuperset(map(ord, characters))), None)


@functools.lru_cache(maxsize=256)
def _characters_of(file: str) -> frozenset[int]:
    from fontTools.ttLib import TTFont, TTLibError

    try:
        with TTFont(file, fontNumber=0, lazy=True) as font:
            return frozenset(font.getBestCmap() or ())
    except (TTLibError, OSError):  # of another format, or damaged
        return frozenset()
