"""Fixtures that the whole suite shares."""

import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest
import torch
from helpers.repo import ROOT

pytest_plugins = ['fixtures.cityscapes', 'fixtures.mapillary', 'fixtures.tiny_run']


@pytest.fixture(scope='session')
def repo_root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One thread in torch and in OpenCV, so that CPU time does not count threads that spin while they wait."""
    threads, cv2_threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    yield
    torch.set_num_threads(threads)
    cv2.setNumThreads(cv2_threads)


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
