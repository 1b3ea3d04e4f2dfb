"""Text tables of the results of :func:`~.file_scores.score_files`."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from .account import BUNDLES, LOSSES
from .tables import render

GROUPS = ('All', 'Things', 'Stuff')


def _table(*headers: str) -> Table:
    table = Table()
    for place, header in enumerate(headers):
        table.add_column(header, justify='right' if place else 'left')
    return table


def _span(bounds: Sequence[float] | None) -> str:
    return '-' if bounds is None else f'{100 * bounds[0]:.2f} .. {100 * bounds[1]:.2f}'


def scores_table(result: Mapping[str, Any], classwise: bool = False) -> str:
    """PQ, SQ and RQ in percent, with the interval of PQ if there is one; with ``classwise``, every class first."""
    spans = result.get('intervals')
    extra = ['PQ from .. to'] if spans else []

    def row(table: Table, title: str, name: Any, values: Mapping[str, float], last: Sequence[str]) -> None:
        shares = [f'{100 * values[key]:.2f}' for key in ('pq', 'sq', 'rq')]
        table.add_row(title, shares[0], *([_span(spans[name]['pq'])] if spans else []), *shares[1:], *last)

    text = ''
    if classwise:
        details = _table('class', 'PQ', *extra, 'SQ', 'RQ', 'TP', 'FP', 'FN')
        for category in result['categories']:
            values = result['scores']['per_class'][category['id']]
            counted = [str(values[key]) for key in ('tp', 'fp', 'fn')]
            row(details, category['name'], category['id'], values, counted)
        text = render(details) + '\n'
    table = _table('', 'PQ', *extra, 'SQ', 'RQ', 'classes')
    for group in GROUPS:
        values = result['scores'][group]
        row(table, group, group, values, [str(values['n'])])
    return text + render(table)


def account_table(result: Mapping[str, Any]) -> str:
    """Points of PQ lost by each cause, and PQ if that cause alone were mended."""
    account, oracles = result['account'], result['oracles']
    table = _table('lost by', *(f'{group}' for group in GROUPS), 'missed', 'extra', 'PQ if mended')
    for bundle, causes in BUNDLES.items():
        for cause in causes:
            if not any(account[group]['points'][cause] for group in GROUPS):
                continue
            points = [f'{account[group]["points"][cause]:.2f}' for group in GROUPS]
            numbers = [str(account['All'][side].get(cause, '')) for side in ('fn', 'fp')]
            together = f'{oracles[bundle][bundle]:.2f}' if cause == causes[0] else '"'
            table.add_row(cause, *points, *numbers, together)
    sums = [f'{sum(account[group]["points"].values()):.2f}' for group in GROUPS]
    numbers = [str(sum(account['All'][side].values())) for side in ('fn', 'fp')]
    table.add_section()
    table.add_row('100 - PQ', *sums, *numbers, '')
    of_all = account['All']
    strict = (
        f'Left out by the rules: {of_all["excused"]} predictions on void and crowds, {of_all["crowds"]} crowds. Were '
        f'void counted and nothing excused, PQ would be {of_all["strict_pq"]:.2f}.'
    )
    return render(table) + '\n' + strict


def against_table(result: Mapping[str, Any]) -> str:
    """Gain over the second set of predictions: in scores, with intervals if there are any, and by cause."""
    other, spans = result['against'], result.get('difference')
    table = _table('', 'PQ', 'against', 'gain', *(['from .. to', 'better in'] if spans else []))
    for group in GROUPS:
        first, second = (100 * scored['scores'][group]['pq'] for scored in (result, other))
        certain = []
        if spans:
            better = spans[group]['pq']['better']
            certain = [_span(spans[group]['pq']['interval']), '-' if better is None else f'{100 * better:.1f} %']
        table.add_row(group, f'{first:.2f}', f'{second:.2f}', f'{first - second:+.2f}', *certain)
    causes = _table('lost by', 'points', 'against', 'gain')
    for cause in LOSSES:
        first, second = (scored['account']['All']['points'][cause] for scored in (result, other))
        if first or second:
            causes.add_row(cause, f'{first:.2f}', f'{second:.2f}', f'{second - first:+.2f}')
    return render(table) + '\n' + render(causes)
