"""Comparison of every panoptic PNG with its JSON entry before training starts."""

import contextlib
import hashlib
import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from mmengine.dataset import BaseDataset
from rich import get_console
from rich.progress import track
from scipy.ndimage import find_objects

from mmpanoptic.formats.panoptic_png import decode_panoptic_png, segment_runs
from mmpanoptic.structures import VOID_ID
from mmpanoptic.utils import DatasetError, is_local, read_bytes
from mmpanoptic.utils.processes import die_with_parent

from .coco_panoptic import CocoPanopticDataset
from .wrappers import inner_datasets

REMEMBER_FROM = 2000  # images; checking fewer takes seconds and is done every time


def panoptic_datasets(dataset: BaseDataset) -> Iterator[CocoPanopticDataset]:
    """Yield the panoptic datasets inside of wrappers (repeated, concatenated, ...)."""
    return (inner for inner in inner_datasets(dataset) if isinstance(inner, CocoPanopticDataset))


def check_png(info: dict) -> None:
    """Compare one PNG with its ``segments_info``.

    Args:
        info: A sample's entry in ``data_list``.

    Raises:
        DatasetError: If the PNG is unreadable, has another size or other ids than the JSON, or the JSON's areas or
            boxes are not those of its pixels. An edge of a box may be off by one, as in other box conventions.
    """
    path = info['seg_map_path']
    ids = decode_panoptic_png(read_bytes(path), path, (info['height'], info['width']))
    faults, _ = compare_png(ids, info)
    if faults:
        raise DatasetError(faults[0])


def compare_png(ids: np.ndarray, info: dict) -> tuple[list[str], np.ndarray | None]:
    """Compare the ids of a PNG with its ``segments_info``.

    Args:
        ids: Of shape (H, W), see :func:`~mmpanoptic.formats.panoptic_png.decode_panoptic_png`.
        info: A sample's entry in ``data_list``.

    Returns:
        A line for each fault, and the number of pixels of each segment, int64; None if an id is unknown.
    """
    path, segments = info['seg_map_path'], info['segments_info']
    of_image = f'image id {info["img_id"]!r}'
    try:
        indices, lengths = segment_runs(ids, segments, path)
    except DatasetError as error:
        return [str(error)], None
    pixels = np.bincount(indices, lengths, len(segments) + 1)[1:].astype(np.int64)
    missing, others = [], []
    bounds = find_objects(np.repeat(indices, lengths).reshape(ids.shape), len(segments))
    for segment, area, found in zip(segments, pixels.tolist(), bounds, strict=True):
        if area == 0:
            missing.append(
                f'{path} has no pixel of segment id {segment["id"]} of its segments_info ({of_image}): the PNG and the '
                f'JSON are not of one release, or the PNG was edited (id {VOID_ID} is void)'
            )
            continue
        if segment['area'] != area:
            others.append(
                f'{path}: segment id {segment["id"]} has area {segment["area"]} in the JSON and {area} pixels '
                f'({of_image}): write the number of pixels'
            )
        x, y, w, h = segment['bbox']
        left, top, right, bottom = found[1].start, found[0].start, found[1].stop, found[0].stop
        if max(abs(x - left), abs(y - top), abs(x + w - right), abs(y + h - bottom)) > 1:
            others.append(
                f'{path}: segment id {segment["id"]} has bbox {segment["bbox"]} in the JSON, its pixels have '
                f'{[left, top, right - left, bottom - top]} ({of_image}, {info["height"]}x{info["width"]}): write [x, '
                'y, width, height] in pixels'
            )
    return missing + others, pixels


def check_panoptic_pngs(dataset: CocoPanopticDataset, workers: int | None = None) -> int:
    """Compare all PNGs of a dataset with the JSON. A large dataset that passed is skipped until its files change.

    Args:
        dataset: The dataset, without wrappers.
        workers: Number of processes; None: one per core, at most 8.

    Returns:
        Number of PNGs that were read.

    Raises:
        DatasetError: At the first PNG with a fault.
    """
    infos = [info for info in map(dataset.get_data_info, range(len(dataset))) if info['seg_map_path'] is not None]
    # Remote storage is too slow to read twice; there the loader checks each PNG when it is used.
    infos = [info for info in infos if is_local(info['seg_map_path'], dataset.backend_args)]
    stamp = _stamp(dataset.ann_file, infos) if len(infos) >= REMEMBER_FROM else None
    if not infos or (stamp is not None and stamp.exists()):
        return 0
    workers = min(workers or min(os.cpu_count() or 1, 8), len(infos))
    context = multiprocessing.get_context('fork')
    with context.Pool(workers, initializer=_start_worker) as pool:
        checked = pool.imap(check_png, infos, chunksize=16)
        hidden = not get_console().is_terminal  # without a terminal, the bar would leave an empty line
        text = f'Checking {len(infos)} panoptic PNGs'
        for _ in track(checked, text, total=len(infos), transient=True, disable=hidden):
            pass
    if stamp is not None:
        with contextlib.suppress(OSError):  # without a cache, the check only runs again
            stamp.parent.mkdir(parents=True, exist_ok=True)
            stamp.write_text(dataset.ann_file + '\n')
    return len(infos)


def _start_worker() -> None:
    die_with_parent()
    cv2.setNumThreads(0)  # one thread per process


def _stamp(ann_file: str, infos: list[dict]) -> Path:
    """File whose existence means that a JSON and its PNGs were checked in their current state on disk."""
    digest = hashlib.sha256()
    for path in (ann_file, *(info['seg_map_path'] for info in infos)):
        try:
            status = os.stat(path)
        except OSError:
            status = None  # the check itself reports it
        digest.update(f'{os.path.abspath(path)} {status and (status.st_mtime_ns, status.st_size)}\n'.encode())
    home = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
    cache = Path(os.environ.get('MMPANOPTIC_CACHE') or os.path.join(home, 'mmpanoptic'))
    return cache / 'checked' / digest.hexdigest()
