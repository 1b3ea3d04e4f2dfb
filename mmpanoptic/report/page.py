"""The page of a report: one HTML file that loads no other files."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from mmpanoptic.utils import UserError

SCRIPTS = ('page.js', 'viewer.js', 'plots.js', 'start.js')  # in the order in which they run
_HERE = Path(__file__).parent


def plotly_script() -> str:
    """The script that draws the plots.

    Raises:
        UserError: If plotly is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs  # the import takes a second, and no other tool needs it
    except ImportError:
        raise UserError('reports draw their plots with plotly, which is not installed: pip install plotly') from None
    return get_plotlyjs()


def render_page(contents: Mapping[str, Any], pictures: Sequence[Mapping[str, Any]]) -> str:
    """Fill the template of the page.

    Args:
        contents: See :func:`~.contents.contents_of`; ``picture`` of an image is its index in ``pictures``.
        pictures: See :func:`~.pictures.pictures_of`.

    Raises:
        UserError: If plotly is not installed.
    """
    environment = jinja2.Environment(autoescape=True, loader=jinja2.FileSystemLoader(_HERE), trim_blocks=True)
    return environment.get_template('page.html').render(
        title=' against '.join(contents['names']),
        plotly=plotly_script(),
        scripts=[(_HERE / name).read_text(encoding='utf-8') for name in SCRIPTS],
        contents=_embedded(contents),
        pictures=[_embedded(picture) for picture in pictures],
    )


def _embedded(value: Any) -> str:
    """JSON with escapes for all texts that must not occur in a script element."""
    text = json.dumps(value, allow_nan=False, separators=(',', ':'))
    return text.replace('<', '\\u003c').replace('\u2028', '\\u2028').replace('\u2029', '\\u2029')
