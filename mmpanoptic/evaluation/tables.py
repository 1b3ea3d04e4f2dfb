"""Scores as text tables: one table for all metrics of a run, in percent."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import NamedTuple

from rich.console import Console
from rich.table import Table


def render(table: Table) -> str:
    """A rich table as plain text, for logs. Markup in class names is not interpreted."""
    console = Console(width=120, color_system=None, markup=False, emoji=False)
    with console.capture() as capture:
        console.print(table)
    return capture.get().rstrip()


@dataclass(frozen=True)
class ClassScores:
    """Scores of every class, which a metric keeps as ``class_scores``.

    Attributes:
        columns: Values by the column's header and the class's name: percentages (NaN if undefined) or counts.
        means: By header, the metric's mean over the classes; columns of counts have none.
    """

    columns: Mapping[str, Mapping[str, float | int]]
    means: Mapping[str, float]


class _Place(NamedTuple):
    """Row and column of a score in the table, and the factor that makes it a percentage."""

    row: str
    column: str
    factor: float


_COLUMNS = ('all', 'things', 'stuff')
_SIZES = {'': '', '_50': '50', '_75': '75', '_s': ', small', '_m': ', medium', '_l': ', large'}
# Keys of mmdet's metrics and of ours, without their prefix. COCO's are shares, the others percentages.
_KEYS: tuple[tuple[str, Callable[..., _Place]], ...] = (
    (
        r'(PQ|SQ|RQ)(|_th|_st)',
        lambda name, group: _Place(name, _COLUMNS[('', '_th', '_st').index(group)], 1.0),
    ),
    (
        r'(bbox|segm)_mAP(|_50|_75|_s|_m|_l)',
        lambda kind, size: _Place(f'{dict(bbox="box", segm="mask")[kind]} AP{_SIZES[size]}', 'things', 100.0),
    ),
    (r'(AR_?[sml]?@\d+)', lambda name: _Place(name, 'things', 100.0)),
    (r'(mIoU|mAcc|aAcc)', lambda name: _Place(name, 'all', 1.0)),
    (r'(AP|AP50)', lambda name: _Place(f'Cityscapes {name}', 'things', 1.0)),
)
_OF_A_CLASS = re.compile(r'.+_precision|AP_.+')  # keys that metrics add with classwise=True
_SHORT = ('PQ', 'box AP', 'mask AP', 'Cityscapes AP', 'mIoU')


def _place_of(key: str) -> _Place | None:
    for pattern, place in _KEYS:
        if match := re.fullmatch(pattern, key.rpartition('/')[2]):
            return place(*match.groups())
    return None


def _is_undefined(place: _Place, value: float) -> bool:
    """Whether a score has COCO's value for no ground truth, -1."""
    return place.factor != 1.0 and value < 0


def _rows(scores: Mapping[str, float]) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """Percentages by row and column, and the scores whose unit is not known."""
    known: dict[str, dict[str, float]] = {}
    others: dict[str, float] = {}
    for key, value in scores.items():
        place = _place_of(key)
        if place is not None and place.column not in known.get(place.row, {}):
            value = math.nan if _is_undefined(place, value) else place.factor * value
            known.setdefault(place.row, {})[place.column] = value
        elif not _OF_A_CLASS.fullmatch(key.rpartition('/')[2]):
            others[key] = value
    return known, others


def _cell(value: float | int | None) -> str:
    if value is None or value != value:
        return '' if value is None else '-'
    return str(value) if isinstance(value, int) else f'{value:.2f}'


def score_table(scores: Mapping[str, float]) -> str:
    """The scores of a run as one table in percent. Scores whose unit is not known follow it unchanged.

    Args:
        scores: By the keys of the metrics, such as ``panoptic/PQ_th`` or ``coco/bbox_mAP_50``.
    """
    known, others = _rows(scores)
    headers = [name for name in _COLUMNS if any(name in row for row in known.values())]
    table = Table('%', *(header for header in headers))
    for column in table.columns[1:]:
        column.justify = 'right'
    for name, row in known.items():
        table.add_row(name, *(_cell(row.get(header)) for header in headers))
    lines = [render(table)] if known else []
    return '\n'.join(lines + [f'{key}: {value}' for key, value in others.items()])


def class_table(scores: Iterable[ClassScores]) -> str:
    """The class scores of all metrics as one table with a row of means; percentages and counts."""
    columns: dict[str, Mapping[str, float | int]] = {}
    means: dict[str, float] = {}
    for of_metric in scores:
        columns |= of_metric.columns
        means |= of_metric.means
    names = list(dict.fromkeys(name for column in columns.values() for name in column))
    table = Table('class, %')
    for header in columns:
        table.add_column(header, justify='right')
    for name in names:
        table.add_row(name, *(_cell(column.get(name)) for column in columns.values()))
    table.add_section()
    table.add_row('mean', *(_cell(means.get(header)) for header in columns))
    return render(table)


def closing_tables(scores: Mapping[str, float], by_class: Sequence[ClassScores] = ()) -> str:
    """The tables at the end of a test: :func:`class_table` if a metric has class scores, then :func:`score_table`."""
    return '\n'.join(([class_table(by_class)] if by_class else []) + [score_table(scores)])


def main_scores(scores: Mapping[str, float]) -> dict[str, float]:
    """The unchanged scores without those of single classes, undefined scores, and values that are no numbers."""
    found: dict[str, float] = {}
    for key, value in scores.items():
        if _OF_A_CLASS.fullmatch(key.rpartition('/')[2]) or not isinstance(value, Real) or not math.isfinite(value):
            continue
        place = _place_of(key)
        if place is None or not _is_undefined(place, value):
            found[key] = float(value)
    return found


def score_line(scores: Mapping[str, float]) -> str:
    """The main scores on one line, for validation during training; all scores if no main score is known."""
    known, others = _rows(scores)
    parts = []
    for name in _SHORT:
        if name not in known:
            continue
        first, *more = known[name].items()
        groups = ', '.join(f'{column} {_cell(value)}' for column, value in more)
        parts.append(f'{name} {_cell(first[1])}' + (f' ({groups})' if groups else ''))
    return '  '.join(parts or [f'{key} {value:.4g}' for key, value in others.items()])
