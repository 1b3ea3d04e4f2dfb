"""The notebook runs, and what is stored in it came from a run."""

import os
import sys
from pathlib import Path

import nbformat
import pytest
from fixtures.tiny_run import tool_env
from nbclient import NotebookClient
from nbformat import NotebookNode


def printed(cell: NotebookNode) -> str:
    return ''.join(output.get('text', '') for output in cell.outputs)


def pictures(cell: NotebookNode) -> int:
    return sum('image/png' in output.get('data', {}) for output in cell.outputs)


def check(notebook: NotebookNode) -> None:
    """Every cell has run without an error; a training, two tables of PQ and two pictures came of it."""
    cells = [cell for cell in notebook.cells if cell.cell_type == 'code']
    text = [printed(cell) for cell in cells]
    assert all(cell.execution_count for cell in cells)
    assert not any('error' in one.lower() or 'Traceback' in one for one in text)
    assert sum('│' in one and 'PQ' in one for one in text) == 2
    assert sum('Epoch(train)' in one for one in text) == 1
    assert [number for number in map(pictures, cells) if number] == [1, 1]


@pytest.fixture
def tour(repo_root: Path) -> NotebookNode:
    return nbformat.read(repo_root / 'docs/tour.ipynb', as_version=4)


def test_the_stored_outputs_are_of_a_whole_run(tour: NotebookNode):
    check(tour)
    counts = [cell.execution_count for cell in tour.cells if cell.cell_type == 'code']
    assert counts == list(range(1, len(counts) + 1))
    assert not any(str(Path.home()) in printed(cell) for cell in tour.cells if cell.cell_type == 'code')


@pytest.mark.slow
def test_the_notebook_runs(tour: NotebookNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """From the first cell to the last, on a few images."""
    for name, value in tool_env(TOUR_TRAIN='8', TOUR_VAL='4').items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv('PATH', f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}')
    for cell in tour.cells:
        if cell.cell_type == 'code':
            cell.outputs, cell.execution_count = [], None
    NotebookClient(tour, timeout=300, resources={'metadata': {'path': str(tmp_path)}}).execute()
    check(tour)
