"""Fixtures that the whole suite shares."""

import os
from pathlib import Path

import pytest

pytest_plugins = ['fixtures.cityscapes', 'fixtures.mapillary', 'fixtures.tiny_run']

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope='session')
def repo_root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope='session')
def shared_data() -> Path:
    """Real images with ground truth, which lie beside the checkout and are no part of it."""
    path = Path(os.environ.get('MMPANOPTIC_SHARED_DATA', ROOT.parent / 'shared' / 'data'))
    if not path.is_dir():
        message = f'{path} is missing: set MMPANOPTIC_SHARED_DATA to the folder of the test data'
        if os.environ.get('CI'):
            pytest.fail(message)
        pytest.skip(message)
    return path
