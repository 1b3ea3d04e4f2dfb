"""Tables of the READMEs of configs, whose numbers are the metafiles'."""

import os
from pathlib import Path

import pytest
from fixtures.tiny_run import run_tool
from helpers.repo import load_tool, run_main

from mmpanoptic.utils import UserError

TOOL = load_tool('misc/readme_tables')
METAFILE = """
Models:
  - Name: one
    Config: configs/system/one.py
    Metadata:
      Parameters: 1234567
      Paper:
        - {Table: 2, Row: wide, PQ: 40.0}
        - {Table: 3, Row: one, PQ: fails, SQ: 70.5}
  - Name: two
    Config: configs/system/two.py
    Metadata:
      Parameters: 89
      Paper:
        - {Table: 2, Row: narrow, PQ: 30.5, Split: test-dev}
    Results:
      - Metrics: {PQ: 55.0}
      - Metrics: {PQ: 57.5}
        Variant: 8 epochs
"""


def rewritten(folder: Path, kind: str, header: str, *rows: str) -> list[str]:
    """The rows of a table as the tool writes them."""
    readme = folder / 'configs/system/README.md'
    readme.parent.mkdir(parents=True, exist_ok=True)
    (readme.parent / 'metafile.yml').write_text(METAFILE)
    rule = '|'.join('---' for _ in header.split('|'))
    readme.write_text('\n'.join(['Before.', f'<!-- table: {kind} -->', header, rule, *rows, '<!-- end -->', 'After.']))
    lines = TOOL.Tables(TOOL.read_models(folder / 'configs')).rewrite(readme).splitlines()
    assert (lines[:3], lines[-2:]) == (['Before.', f'<!-- table: {kind} -->', header], ['<!-- end -->', 'After.'])
    return lines[4:-2]


def test_readmes_are_what_the_metafiles_say(repo_root: Path):
    done = run_tool('misc/readme_tables.py', '--check', cwd=repo_root)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize('page', ['configs/system/README.md', 'docs/results/system.md', 'docs/papers/system.md'])
def test_every_page_is_looked_at(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / page
    for folder in (path.parent, tmp_path / 'configs/system'):
        folder.mkdir(parents=True, exist_ok=True)
    (tmp_path / 'configs/system/metafile.yml').write_text(METAFILE.replace('      Paper:', '      Others:'))
    link = os.path.relpath(tmp_path / 'configs/system/two.py', path.parent)
    table = f'<!-- table: measured -->\n| config | PQ |\n|---|---|\n| [2]({link}) | 54.0 |\n<!-- end -->\n'
    path.write_text(table)
    monkeypatch.setattr(TOOL, 'ROOT', tmp_path)
    with pytest.raises(UserError, match=f'{page} is not what the metafiles say'):
        run_main(TOOL, monkeypatch, '--check')
    run_main(TOOL, monkeypatch)
    assert path.read_text() == table.replace('54.0', '55.0')


def test_rows(tmp_path: Path):
    header = '| config | parameters | PQ | on |'
    rows = '| [1](one.py), slow | 1 | 39.0¹ | |', '| [2](two.py) | | not trained | here |'
    wide, narrow = '| [1](one.py), slow | 1 234 567 | 40.0¹ | |', '| [2](two.py) | 89 | 55.0 | here |'
    assert rewritten(tmp_path, 'configs', header, *rows) == [wide, narrow]
    quoted = '| another work | | 60.0 | |'
    assert rewritten(tmp_path, 'measured', header, rows[1], quoted) == [narrow, quoted]
    assert rewritten(tmp_path, 'measured', '| config | PQ |', '| [2](two.py), 8 epochs | |') == [
        '| [2](two.py), 8 epochs | 57.5 |'
    ]


def test_rows_of_the_tables_of_a_paper(tmp_path: Path):
    rows = '| 2 (val²) | | [1](one.py) | | |', '| 3 | | [1](one.py) | | |', '| 2 | | [2](two.py) | 1.0 | |'
    assert rewritten(tmp_path, 'paper', '| table | row | config | PQ | SQ |', *rows) == [
        '| 2 (val²) | wide | [1](one.py) | 40.0 | |',
        '| 3 | one | [1](one.py) | fails | 70.5 |',
        '| 2 | narrow | [2](two.py) | 30.5 | |',
    ]
    assert rewritten(tmp_path, 'paper', '| table 3, PQ | SQ | config |', '| | | [1](one.py) |') == [
        '| one | 70.5 | [1](one.py) |'
    ]


@pytest.mark.parametrize(
    ('row', 'message'),
    [
        ('| [3](three.py) | 40.0 | |', r'three\.py is in no metafile: give it an entry'),
        ('| [1](one.py) | 40.0 | 71.0¹ |', r'RQ 71\.0¹ is in no metafile: write it there'),
    ],
)
def test_what_no_metafile_has_is_named(row: str, message: str, tmp_path: Path):
    with pytest.raises(UserError, match=message):
        rewritten(tmp_path, 'configs', '| config | PQ | RQ |', row)
