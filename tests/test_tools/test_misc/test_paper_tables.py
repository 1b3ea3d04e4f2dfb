"""The page of the papers' tables: all rows, in order, and up to date."""

import re
from collections import Counter

import pytest
import yaml
from helpers.repo import ROOT, load_tool, run_main

from mmpanoptic.utils import UserError

TOOL = load_tool('misc/paper_tables')
# How many rows the tables of the papers have; of PANet's table 3 and 4, those of boxes alone are rows of their own.
ROWS = {
    'CIAE': dict(I=2, II=5, III=4, IV=4, V=5, VI=5, VII=5, VIII=4, IX=6, X=4),
    'OANet': {'1': 6, '2': 2, '3': 5, '4': 5, '5': 3, '6': 1},
    'PANet': {'1': 4, '2': 4, '3': 9 + 7, '4': 4 + 4, '5': 6, '6': 5, '7': 1, '8': 2, '9': 3, '10': 3},
    'SpatialFlow': {
        '1': 1, '2': 1, '3': 2, '4': 6, '5': 4, '6': 4, '7': 5, '8': 5, '9': 5, '10': 5, '11': 3, '12': 2,
    },
}  # fmt: skip
METAFILE = """
Collections:
  - Name: System
    Paper:
      Title: A title
      URL: https://example.org
      Without config:
        - {Table: 2, Row: larger, PQ: 50.0, Split: test-dev, Why: no backbone}
Models:
  - Name: one
    Config: configs/system/one.py
    Metadata:
      Parameters: 1
      Paper:
        - {Table: 10, Row: one, PQ: 40.0, Differs: 'a size, unread', Shapes: configs/system/small.py}
        - {Table: 2, Row: wide, PQ: 41.0, SQ: 70.5}
        - {Source: released code, PQ: 39.0}
  - Name: small
    Config: configs/system/small.py
    Metadata:
      Parameters: 1
      Paper:
        - {Table: 2, Row: narrow, PQ: fails}
    Results:
      - Metrics: {PQ: 55.0, PQ_th: 44.0}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / 'configs/system').mkdir(parents=True)
    (tmp_path / 'docs/papers').mkdir(parents=True)
    (tmp_path / 'configs/system/metafile.yml').write_text(METAFILE)
    for name in ('one', 'small'):
        (tmp_path / f'configs/system/{name}.py').touch()
    page = '| table | row |\n|---|---|\n| 2 (val) | narrow |\n| 2 | wide |\n| 10 | one |\n'
    (tmp_path / 'docs/papers/system.md').write_text(page)
    monkeypatch.setattr(TOOL, 'ROOT', tmp_path)
    return tmp_path


def rows(page):
    return [line for line in page.splitlines() if re.match(r'\| (\d+|[IVX]+) \|', line)]


def test_page_is_up_to_date():
    """And every config exists, without which the page cannot be made."""
    assert (ROOT / TOOL.PAGE).read_text() == TOOL.text()


def test_every_row_of_every_table_is_there():
    for system, page in re.findall(r'\n## (\w+)\n(.*?)(?=\n## |$)', TOOL.text(), re.DOTALL):
        assert Counter(row.split(' | ')[0].strip('| ') for row in rows(page)) == ROWS[system]
    assert len(re.findall('\n## ', TOOL.text())) == len(ROWS)


def test_rows_are_in_the_order_of_the_paper(folder):
    one, small = (f'[{name}](../../configs/system/{name}.py)' for name in ('one', 'small'))
    assert rows(TOOL.text()) == [
        f'| 2 | narrow | {small} | PQ fails | PQ 55.0, PQ_th 44.0 ({small}) | |',
        f'| 2 | wide | {one} | PQ 41.0, SQ 70.5 | not run | |',
        '| 2 | larger | none: no backbone | PQ 50.0 (test-dev) | not run | |',
        f'| 10 | one | {one} | PQ 40.0 | PQ 55.0, PQ_th 44.0 ({small}) | a size, unread |',
    ]
    header = TOOL.order_of('| table IX, x | config |\n|---|---|\n| a | b |\n')
    assert header['IX', 'a'] and ('IX', 'b') not in header


def test_tables_are_in_the_order_of_their_numbers():
    assert [TOOL.table_number(table) for table in ('2', '10', 'I', 'IV', 'IX', 'X', 'VIII')] == [2, 10, 1, 4, 9, 10, 8]
    with pytest.raises(UserError, match="table 'A' of a metafile has no number"):
        TOOL.table_number('A')


def test_check(folder, monkeypatch):
    for _ in range(2):
        with pytest.raises(UserError, match=r'tables\.md is not what the metafiles say: run python'):
            run_main(TOOL, monkeypatch, '--check')
        (folder / TOOL.PAGE).write_text('old')
    run_main(TOOL, monkeypatch)
    run_main(TOOL, monkeypatch, '--check')


def test_what_is_not_there_is_named(folder):
    (folder / 'configs/system/one.py').unlink()
    with pytest.raises(UserError, match=r'configs/system/one\.py of a metafile does not exist'):
        TOOL.text()
    (folder / 'configs/system/one.py').touch()
    content = yaml.safe_load(METAFILE)
    content['Models'][1].pop('Results')
    (folder / 'configs/system/metafile.yml').write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match=r'configs/system/small\.py has no Results in its metafile'):
        TOOL.text()
