"""Fixtures that the whole suite shares."""

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest
import torch
from helpers.repo import ROOT

pytest_plugins = [
    'fixtures.cityscapes',
    'fixtures.mapillary',
    'fixtures.tiny_model',
    'fixtures.tiny_run',
    'fixtures.writers',
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of tools first: they take longest, and no process is to begin one of their modules when others are done."""
    items.sort(key=lambda item: 'test_tools' not in item.path.parts)


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


@pytest.fixture
def kept_memory() -> Iterator[None]:
    """An allocator that keeps what is freed, so that CPU time does not count how the kernel hands out pages.

    Arrays of some 100 kB to some MB would be fetched anew in every call, which costs three times as much on one machine
    as on another.
    """
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', lambda *_: None)  # glibc's alone
    trim_threshold, mmap_max = -1, -4  # numbers of malloc.h
    mallopt(trim_threshold, 2**31 - 1)
    mallopt(mmap_max, 0)
    yield
    mallopt(trim_threshold, 128 * 1024)  # what glibc starts with
    mallopt(mmap_max, 65536)


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
