"""Listings of what released checkpoints hold, which lie beside the test data."""

from collections.abc import Iterable
from pathlib import Path

import pytest


def released_shapes(shared_data: Path, kinds: Iterable[str]) -> dict[str, dict[str, tuple[int, ...]]]:
    """Names and shapes of the tensors of each kind of checkpoint; skips the test where there are no listings."""
    folder = shared_data.parent / 'spec' / 'released_checkpoints'
    if not folder.is_dir():
        pytest.skip(f'{folder} is missing')
    return {kind: _read_shapes(folder / f'{kind}.txt') for kind in kinds}


def _read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    lines = [line.split('\t') for line in path.read_text().splitlines() if line[0] != '#']
    return {name: () if shape == 'scalar' else tuple(map(int, shape.split('x'))) for name, shape in lines}
