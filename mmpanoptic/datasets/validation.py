"""Comparing every panoptic PNG with its JSON entry before training starts."""

import hashlib
import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from mmengine.dataset import BaseDataset
from rich.progress import track

from mmpanoptic.structures import VOID_ID, decode_panoptic_png
from mmpanoptic.utils import DatasetError, read_bytes

from .coco_panoptic import CocoPanopticDataset
from .transforms.loading import segment_indices

REMEMBER_FROM = 2000  # images; checking fewer takes seconds and is done every time


def panoptic_datasets(dataset: BaseDataset) -> Iterator[CocoPanopticDataset]:
    """The panoptic datasets inside of wrappers (repeated, concatenated, ...)."""
    if isinstance(dataset, CocoPanopticDataset):
        yield dataset
    for inner in getattr(dataset, 'datasets', [getattr(dataset, 'dataset', None)]):
        if inner is not None:
            yield from panoptic_datasets(inner)


def check_png(info: dict) -> None:
    """Compare one PNG with its ``segments_info``.

    Args:
        info: A sample's entry in ``data_list``.

    Raises:
        DatasetError: If it is unreadable, of another size, or has other ids than the JSON.
    """
    path = info['seg_map_path']
    ids = decode_panoptic_png(read_bytes(path), path)
    if ids.shape != (info['height'], info['width']):
        raise DatasetError(
            f'{path} is {ids.shape[0]}x{ids.shape[1]} (height x width), its image (id {info["img_id"]!r}) '
            f'{info["height"]}x{info["width"]} in the JSON: wrong file or wrong sizes'
        )
    indices = segment_indices(ids, info['segments_info'], path)
    pixels = np.bincount(indices.ravel(), minlength=len(info['segments_info']) + 1)[1:]
    if not pixels.all():
        segment = info['segments_info'][int(np.flatnonzero(pixels == 0)[0])]
        raise DatasetError(
            f'{path} has no pixel of segment id {segment["id"]} of its segments_info (image id {info["img_id"]!r}): '
            f'the PNG and the JSON are not of one release, or the PNG was edited (id {VOID_ID} is void)'
        )


def check_panoptic_pngs(dataset: CocoPanopticDataset, workers: int | None = None) -> int:
    """Compare all PNGs of a dataset with the JSON; a large dataset that passed is remembered until its files change.

    Args:
        dataset: The dataset, without wrappers.
        workers: Processes; by default one a core, at most 8.

    Returns:
        Number of PNGs that were read.

    Raises:
        DatasetError: At the first PNG that does not fit.
    """
    if dataset.backend_args is not None or '://' in dataset.ann_file:
        return 0  # remote storage: too slow to read twice; the loader checks each PNG when it is used
    infos = [info for info in map(dataset.get_data_info, range(len(dataset))) if info['seg_map_path'] is not None]
    stamp = _stamp(dataset) if len(infos) >= REMEMBER_FROM else None
    if stamp is not None and stamp.exists():
        return 0
    workers = workers or min(os.cpu_count() or 1, 8)
    with multiprocessing.get_context('fork').Pool(workers) as pool:
        checked = pool.imap(check_png, infos, chunksize=16)
        for _ in track(checked, f'Checking {len(infos)} panoptic PNGs', total=len(infos), transient=True):
            pass
    if stamp is not None:
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.write_text(dataset.ann_file + '\n')
    return len(infos)


def _stamp(dataset: CocoPanopticDataset) -> Path:
    """File whose existence says that the dataset, as it lies on disk now, was checked."""
    parts = [repr(sorted((dataset.filter_cfg or {}).items())), repr(dataset._indices)]
    for path in (dataset.ann_file, dataset.data_prefix['seg']):
        status = os.stat(path)
        parts.append(f'{os.path.abspath(path)} {status.st_mtime_ns} {status.st_size}')
    home = os.environ.get('XDG_CACHE_HOME', os.path.expanduser('~/.cache'))
    cache = Path(os.environ.get('MMPANOPTIC_CACHE', os.path.join(home, 'mmpanoptic')))
    return cache / 'checked' / hashlib.sha256('\n'.join(parts).encode()).hexdigest()
