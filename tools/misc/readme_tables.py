"""Write the numbers of the tables in configs/*/README.md, docs/results and docs/papers from the metafiles.

python tools/misc/readme_tables.py [--check]

A table is between <!-- table: KIND --> and <!-- end -->. The page determines its header, the order of its rows and its
links. A row shows numbers of the configs that it links to. In a 'paper' table, these are from Metadata.Paper, for the
table of the paper that the row or the header names; in a 'measured' table, from Results; in a 'configs' table, from
Results or else Metadata.Paper. A superscript mark after a number (¹) is kept.
"""

import argparse
import re
from pathlib import Path

import yaml

from mmpanoptic.engine import cli
from mmpanoptic.utils import UserError, write_whole

ROOT = Path(__file__).resolve().parents[2]
PAGES = ('configs/*/README.md', 'docs/results/*.md', 'docs/papers/*.md')
TEXTS = {'boxes only', 'config', 'dataset', 'table', 'what'}
KEYS = {'AP^bb': 'box AP', 'on': 'Split', 'row': 'Row'}  # headers that differ from the key in metafiles
TABLE = re.compile(r'(<!-- table: (configs|measured|paper) -->)\n(.*?)\n(<!-- end -->)', re.DOTALL)
LINK = re.compile(r'\]\(([^)]+\.py)\)')
MARKS = '¹²³⁴⁵⁶⁷⁸⁹'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Write the tables about configs from the metafiles')
    parser.add_argument('--check', action='store_true', help='write nothing; fail if a page is out of date')
    return parser.parse_args()


def read_models(configs: Path) -> dict[Path, dict]:
    """Entries of all metafiles below a folder, by the absolute path of their config."""
    models = {}
    for metafile in sorted(configs.glob('*/metafile.yml')):
        for model in yaml.safe_load(metafile.read_text())['Models']:
            models[configs.parent / model['Config']] = model
    return models


def cells_of(line: str) -> list[str]:
    """The cells of a line of a table."""
    return [cell.strip() for cell in line.strip().strip('|').split('|')]


def facts_of(model: dict, kind: str, table: str | None, row: str) -> list[dict]:
    """Facts of a metafile about a model that fit a row, the best fit first.

    Args:
        model: Entry of the model in the metafile.
        kind: Kind of the table.
        table: In a 'paper' table, the number of the paper's table.
        row: Text of the row. With several results, the one whose ``Variant`` is in the text is used.
    """
    papers = model['Metadata'].get('Paper', [])
    if kind == 'paper':
        return [entry for entry in papers if str(entry.get('Table')) == table]
    results = sorted(model.get('Results', []), key=lambda result: 'Variant' not in result)
    measured = [result | result['Metrics'] for result in results if result.get('Variant', '') in row][:1]
    return measured or (papers if kind == 'configs' else [])


class Tables:
    """Rewrite the tables of pages.

    Args:
        models: See :func:`read_models`.

    Attributes:
        shown: ``id`` of each row of a paper of which a table shows a number.
    """

    def __init__(self, models: dict[Path, dict]) -> None:
        self.models = models
        self.shown: set[int] = set()

    def rewrite(self, page: Path) -> str:
        """The text of a page with numbers from the metafiles.

        Raises:
            UserError: If a row links to a config without an entry, or has a number that no metafile has.
        """

        def table(match: re.Match) -> str:
            opening, kind, lines, closing = match.groups()
            header, rule, *rows = lines.splitlines()
            columns = cells_of(header)
            rows = [self._row(columns, row, kind, page) for row in rows]
            return '\n'.join([opening, header, rule, *rows, closing])

        return TABLE.sub(table, page.read_text())

    def _row(self, columns: list[str], row: str, kind: str, page: Path) -> str:
        paths = [(page.parent / link).resolve() for link in LINK.findall(row)]
        if not paths:  # a quoted row without a config
            return row
        if missing := [path for path in paths if path not in self.models]:
            raise UserError(f'{page}: {missing[0]} is in no metafile: give it an entry, or mend the link')
        cells = cells_of(row)
        number = re.match(r'\w+', cells[0]) if columns[0] == 'table' else re.search(r'(?<=^table )\w+', columns[0])
        models = [self.models[path] for path in paths]
        facts = [fact for model in models for fact in facts_of(model, kind, number and number[0], row)]
        for place, (column, old) in enumerate(zip(columns, cells, strict=True)):
            if column == 'parameters':
                cells[place] = f'{models[0]["Metadata"]["Parameters"]:,}'.replace(',', ' ')
            elif column not in TEXTS:
                cells[place] = self._cell(column, old, facts, f'{page}: {row}')
        return '|' + ''.join(f' {cell} |' if cell else ' |' for cell in cells)

    def _cell(self, column: str, old: str, facts: list[dict], where: str) -> str:
        key = 'Row' if column.startswith('table ') else KEYS.get(column, column.removeprefix('paper: '))
        fact = next((fact for fact in facts if key in fact), None)
        if fact is None:
            if re.fullmatch(rf'[-+\d., ]*\d[{MARKS}]*', old):
                raise UserError(f'{where}: {column} {old} is in no metafile: write it there')
            return old
        self.shown.add(id(fact))
        return f'{fact[key]}{re.search(f"[{MARKS}]*$", old)[0]}'


def main() -> None:
    args = parse_args()
    models = read_models(ROOT / 'configs')
    tables = Tables(models)
    for page in sorted(page for pattern in PAGES for page in ROOT.glob(pattern)):
        text = tables.rewrite(page)
        if args.check and text != page.read_text():
            raise UserError(f'{page} is not what the metafiles say: run python tools/misc/readme_tables.py')
        if not args.check:
            write_whole(page, text)
    for model in models.values():
        for entry in model['Metadata'].get('Paper', []):
            if id(entry) not in tables.shown:
                raise UserError(f'{model["Config"]}: no table of a page shows {entry}: add a row that links to it')


if __name__ == '__main__':
    cli.run(main)
