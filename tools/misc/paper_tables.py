"""Write docs/papers/tables.md from the metafiles: rows of the papers' tables with configs and measurements.

python tools/misc/paper_tables.py [--check]

A row is an entry of ``Metadata.Paper`` with a ``Table``. Rows of a table have the order of the system's page in
docs/papers. ``Differs`` in an entry says how and why the config differs from the row. ``Shapes`` names the config with
the same part on the built-in dataset, whose ``Results`` are then shown. Rows without a config are in the collection's
``Paper``, under ``Without config``, with a ``Why``.
"""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from mmpanoptic.engine import cli
from mmpanoptic.utils import UserError, write_whole

ROOT = Path(__file__).resolve().parents[2]
PAGE = 'docs/papers/tables.md'
NO_NUMBERS = ('Table', 'Row', 'Split', 'Differs', 'Shapes', 'Why', 'Config')
HEADER = """# The papers' tables, row by row

This page is written by `python tools/misc/paper_tables.py`.

| column | content |
|---|---|
| paper | the paper's numbers, on val unless another split is named; none was reproduced here, since there is no GPU |
| measured here | of the row's own config or, if there is none, of the same part on [Shapes](../results/README.md), \
trained from scratch in minutes; "not run": neither |
| differs | how the config of the row differs, or how it was read where the paper is silent |

What holds for all rows of a system is on its page, with the reasons: [PANet](panet.md), [SpatialFlow](spatialflow.md),
[OANet](oanet.md), [CIAE](ciae.md). There is no table for [Panoptic FPN](../../configs/panoptic_fpn/README.md), whose
configs are mmdet's.
"""


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Write the page of the papers' tables from the metafiles")
    parser.add_argument('--check', action='store_true', help='write nothing; fail if the page is out of date')
    return parser.parse_args()


def rows_of(metafile: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of a paper's tables; those with a config have its path as ``Config``."""
    rows = [dict(row) for row in metafile['Collections'][0].get('Paper', {}).get('Without config', [])]
    for model in metafile['Models']:
        papers = model['Metadata'].get('Paper', [])
        rows += [dict(entry, Config=model['Config']) for entry in papers if 'Table' in entry]
    return rows


def order_of(page: str) -> dict[tuple[str, str], int]:
    """Line numbers of rows of papers' tables in a page, by the number of the table and the text of the row."""
    order: dict[tuple[str, str], int] = {}
    table = ''
    for place, line in enumerate(page.splitlines()):
        first, second = (
            (cell.strip() for cell in f'{line.strip("|")}||'.split('|')[:2]) if line[:1] == '|' else ('', '')
        )
        if header := re.fullmatch(r'table( (\w+).*)?', first):
            table = header[2] or ''
        elif table:
            order[table, first] = place
        elif number := re.match(r'\w+', first):
            order[number[0], second] = place
    return order


def table_number(table: str) -> int:
    """The number of a table, which may be a Roman numeral.

    Raises:
        UserError: If it is no number.
    """
    if table.isdecimal():
        return int(table)
    values = [dict(I=1, V=5, X=10).get(digit) for digit in table]
    if not values or None in values:
        raise UserError(f'table {table!r} of a metafile has no number: write 3 or III')
    return sum(-value if value < after else value for value, after in zip(values, [*values[1:], 0], strict=True))


def numbers(entry: dict[str, Any]) -> str:
    """Text of the numbers of a row, with the split unless it is val."""
    values = [f'{name} {value}' for name, value in entry.items() if name not in NO_NUMBERS]
    split = entry.get('Split', 'val')
    return ', '.join(values) + ('' if split == 'val' else f' ({split})')


def measured(entry: dict[str, Any], results: dict[str, list]) -> str:
    """Text of the measurements of a row's config or of its counterpart on Shapes.

    Raises:
        UserError: If ``Shapes`` names a config without results.
    """
    is_measured = bool(results.get(entry.get('Config', '')))
    config = entry['Config'] if is_measured else entry.get('Shapes')
    if config is None:
        return 'not run'
    if not results.get(config):
        raise UserError(
            f'{config} has no Results in its metafile, and a row of a paper names it: measure it or take it out'
        )
    metrics = ', '.join(f'{name} {value}' for name, value in results[config][0]['Metrics'].items())
    return f'{metrics} ({link(config)})'


def link(config: str) -> str:
    """Link from the page to a config.

    Raises:
        UserError: If the config does not exist.
    """
    if not (ROOT / config).is_file():
        raise UserError(f'{config} of a metafile does not exist: mend its name')
    return f'[{Path(config).stem}](../../{config})'


def section(metafile: dict[str, Any], page: str, results: dict[str, list]) -> Iterator[str]:
    """Lines of the page about one system."""
    collection = metafile['Collections'][0]
    rows, order = rows_of(metafile), order_of(page)
    if not rows:
        return
    yield from (
        '',
        f'## {collection["Name"]}',
        '',
        f'[{collection["Paper"]["Title"]}]({collection["Paper"]["URL"]})',
        '',
    )
    yield from ('| table | row | config | paper | measured here | differs |', '|---|---|---|---|---|---|')
    rows.sort(key=lambda row: (table_number(str(row['Table'])), order.get((str(row['Table']), row['Row']), 10**6)))
    for row in rows:
        config = link(row['Config']) if 'Config' in row else f'none: {row["Why"]}'
        cells = (row['Table'], row['Row'], config, numbers(row), measured(row, results), row.get('Differs', ''))
        yield '|' + ''.join(f' {cell} |' if cell != '' else ' |' for cell in cells)


def text() -> str:
    """The page."""
    metafiles = [yaml.safe_load(path.read_text()) for path in sorted(ROOT.glob('configs/*/metafile.yml'))]
    results = {model['Config']: model.get('Results', []) for metafile in metafiles for model in metafile['Models']}
    lines = []
    for metafile in metafiles:
        page = ROOT / 'docs/papers' / f'{metafile["Collections"][0]["Name"].lower()}.md'
        lines += section(metafile, page.read_text() if page.is_file() else '', results)
    return HEADER + '\n'.join(lines) + '\n'


def main() -> None:
    args = parse_args()
    page, new = ROOT / PAGE, text()
    if not args.check:
        write_whole(page, new)
    elif not page.is_file() or page.read_text() != new:
        raise UserError(f'{page} is not what the metafiles say: run python tools/misc/paper_tables.py')


if __name__ == '__main__':
    cli.run(main)
