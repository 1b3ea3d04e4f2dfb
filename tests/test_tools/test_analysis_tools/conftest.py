"""What tests of tools that draw pictures share."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fixtures.tiny_model import TinyModel
from helpers.repo import run_main

from mmpanoptic.drawing import draw


@pytest.fixture
def titles(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Titles of the panels that are drawn, without what follows a comma."""
    seen, header = [], draw.with_header

    def with_header(picture: np.ndarray, title: str) -> np.ndarray:
        seen.append(title.split(',')[0])
        return header(picture, title)

    monkeypatch.setattr(draw, 'with_header', with_header)
    return seen


@pytest.fixture
def run(
    request: pytest.FixtureRequest, tiny: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Path]:
    """Runs ``TOOL`` of the test's module on its ``tiny`` model; returns the folder that it writes."""
    out = tmp_path / 'new' / 'out'

    def run(*args: str | Path, config: str = tiny.config, checkpoint: str = tiny.checkpoint) -> Path:
        run_main(request.module.TOOL, monkeypatch, config, checkpoint, *args, '--out', out, '--device', 'cpu')
        return out

    return run
