"""Write texts into pictures, in any script for which this machine has a font.

OpenCV draws ASCII texts. Pillow draws all others, in the first font that has all their characters: the font of
matplotlib (Latin, Greek, Cyrillic and more), then installed fonts. Without such a font, characters are written as
escape codes. Fonts for Chinese, Japanese and Korean are in the Noto CJK packages of Linux distributions.
"""

import functools
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_PIXELS = 30  # font size at which capitals are as high as OpenCV's at scale 1


def text_scale(shape: Sequence[int], smallest: float = 0.42, pixels_per_scale: float = 1100) -> float:
    """OpenCV's font scale for a picture of this (height, width); it grows with the short side."""
    return max(smallest, min(shape[:2]) / pixels_per_scale)


def contrasting(color: Sequence[int]) -> tuple[int, int, int]:
    """Black or white, whichever has more contrast with a colour, by its luma (ITU-R BT.601)."""
    return (0, 0, 0) if np.dot(color, (0.299, 0.587, 0.114)) > 140 else (255, 255, 255)


def text_box(text: str, scale: float) -> tuple[int, int, int]:
    """Width and height of a text with margins, and distance of its base line from the top, in pixels."""
    font = _font_of(text, scale)
    if font is None:
        (width, height), below = cv2.getTextSize(_escaped(text), _FONT, scale, _thickness(scale))
    else:
        width, (height, below) = round(font.getlength(text)), font.getmetrics()
    margin = _margin(scale)
    return width + 2 * margin, height + below + margin, height + margin // 2 + 1


def put_text(picture: np.ndarray, text: str, x: int, y: int, scale: float, color: Sequence[int]) -> None:
    """Write a text on a background box whose top left corner is (x, y)."""
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
    """The font for a text; None: OpenCV's font."""
    file = None if text.isascii() else _file_of(''.join(sorted(set(text))))
    return None if file is None else ImageFont.truetype(file, max(8, round(_PIXELS * scale)))


@functools.lru_cache(maxsize=1024)
def _file_of(characters: str) -> str | None:
    """File of the first font that has all the characters; None if there is none."""
    from matplotlib import font_manager  # imported late: few texts need it, and the import searches for fonts

    installed = sorted(font_manager.findSystemFonts())
    files = [font_manager.findfont('DejaVu Sans'), *installed]
    return next((file for file in files if _characters_of(file).issuperset(map(ord, characters))), None)


@functools.lru_cache(maxsize=256)
def _characters_of(file: str) -> frozenset[int]:
    from fontTools.ttLib import TTFont, TTLibError

    try:
        with TTFont(file, fontNumber=0, lazy=True) as font:
            return frozenset(font.getBestCmap() or ())
    except (TTLibError, OSError):  # unknown format or damaged file
        return frozenset()
