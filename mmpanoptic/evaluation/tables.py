"""Scores as text tables."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table


def render(table: Table) -> str:
    """A rich table as plain text, for logs; names of classes are no markup."""
    console = Console(width=120, color_system=None, markup=False, emoji=False)
    with console.capture() as capture:
        console.print(table)
    return capture.get().rstrip()


def pq_table(
    averages: Mapping[str, Mapping[str, float]],
    classes: Mapping[Any, Mapping[str, float]] | None,
    categories: Sequence[Mapping[str, Any]],
) -> str:
    """Panoptic quality as a table, in percent.

    Args:
        averages: ``pq``, ``sq``, ``rq`` and ``n`` by suffix: '' (all), '_th' (things), '_st' (stuff).
        classes: Quality by category id to list as well, or None.
        categories: Categories with ``id`` and ``name``.
    """
    table = Table()
    for header in ('', 'PQ', 'SQ', 'RQ', 'classes'):
        table.add_column(header, justify='left' if header == '' else 'right')
    for suffix, title in (('', 'All'), ('_th', 'Things'), ('_st', 'Stuff')):
        values = averages[suffix]
        table.add_row(title, *(f'{100 * values[key]:.2f}' for key in ('pq', 'sq', 'rq')), str(values['n']))
    if classes is None:
        return render(table)
    details = Table()
    for header in ('class', 'PQ', 'SQ', 'RQ', 'TP', 'FP', 'FN'):
        details.add_column(header, justify='left' if header == 'class' else 'right')
    for category in categories:
        values = classes[category['id']]
        shares = (f'{100 * values[key]:.2f}' for key in ('pq', 'sq', 'rq'))
        details.add_row(category['name'], *shares, *(str(values[key]) for key in ('tp', 'fp', 'fn')))
    return render(details) + '\n' + render(table)


def class_table(classes: Sequence[str], columns: Mapping[str, Sequence[float]]) -> str:
    """Percentages of every class as a table; what is not defined (nan) is a dash."""
    table = Table('class')
    for header in columns:
        table.add_column(header, justify='right')
    for name, *values in zip(classes, *columns.values(), strict=True):
        table.add_row(name, *('-' if value != value else f'{value:.2f}' for value in values))
    return render(table)
