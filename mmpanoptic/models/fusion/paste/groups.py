"""Pasting on a GPU: decisions about groups of pixels, and one gather that makes the map.

Pixels that are covered by the same instances and have the same stuff label always get the same segment. They form a
group; an image of a million pixels has about a thousand groups. The greedy decisions of :mod:`~.instances`,
:mod:`mmpanoptic.models.fusion.stuff` and :class:`~.box_fill_fusion.BoxFillFusion` depend only on numbers of pixels. So
groups and their sizes are copied to the CPU, decisions are made there, and the values of the groups are copied back.
The map equals that of these modules bit for bit, and the number of transfers does not depend on the number of
instances. OpenCV finds components of stuff on the CPU; if these are needed, the group of each pixel is copied there
too, as runs.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmpanoptic.models.fusion.segments import thing_id
from mmpanoptic.models.fusion.transfer import fetch

from .instances import require_masks

_BYTES = 8  # bytes of a word
_PIECE = 64  # planes that are packed at once; bounds the memory


class PixelGroups(NamedTuple):
    """Pixels grouped by the masks or boxes that cover them and by their stuff label.

    Attributes:
        members: For each set of planes, whether a group lies in each plane, bool of shape (G, K), on the CPU; K is a
            multiple of 8, and planes beyond the last one are empty.
        labels: Stuff label of each group, int64 of shape (G,), on the CPU.
        sizes: Number of pixels of each group, int64 of shape (G,), on the CPU.
        group: Group of each pixel, int64 of shape (H, W), on the device of the planes or on the CPU.
    """

    members: list[np.ndarray]
    labels: np.ndarray
    sizes: np.ndarray
    group: Tensor


def group_pixels(planes: Sequence[Tensor], labels: Tensor, on_cpu: bool = False) -> PixelGroups:
    """Group the pixels of an image, with three synchronisations and no upload whatever the image holds.

    Args:
        planes: Sets of planes as :func:`pack_masks` and :func:`pack_boxes` return them.
        labels: Stuff labels, integers of shape (H, W), from 0 on.
        on_cpu: Whether ``group`` is wanted on the CPU.
    """
    keys = torch.cat([labels.reshape(1, -1).long(), join_bytes(torch.cat(list(planes)))])
    # Runs of equal pixels first: there are far fewer runs than pixels to sort.
    is_start = torch.ones(keys.shape[1], dtype=torch.bool, device=keys.device)
    is_start[1:] = (keys[:, 1:] != keys[:, :-1]).any(dim=0)
    starts = is_start.nonzero().flatten()
    keys = keys[:, starts]
    lengths = F.pad(starts, (0, 1), value=is_start.numel()).diff()

    order = torch.arange(len(starts), device=keys.device)
    for key in keys:
        order = order[key[order].argsort(stable=True)]
    keys = keys[:, order]
    is_first = torch.ones_like(order, dtype=torch.bool)
    is_first[1:] = (keys[:, 1:] != keys[:, :-1]).any(dim=0)
    group_of_run = torch.empty_like(order).scatter_(0, order, is_first.cumsum(0) - 1)
    firsts = is_first.nonzero().flatten()
    before = F.pad(lengths[order].cumsum(0), (1, 0))
    sizes = torch.diff(before[firsts], append=before[-1:])

    sizes_and_keys = torch.cat([sizes[None], keys[:, firsts]])
    if on_cpu:  # in one transfer with the table
        fetched, runs = fetch(sizes_and_keys, torch.stack([group_of_run, lengths]))
        group = torch.repeat_interleave(*runs)
    else:
        (fetched,) = fetch(sizes_and_keys)
        group = group_of_run[is_start.cumsum(0) - 1]
    table = fetched.numpy()
    bits = np.unpackbits(np.ascontiguousarray(table[2:].T).view(np.uint8), axis=1, bitorder='little')
    bounds = np.cumsum([8 * len(part) for part in planes])
    members = np.split(bits[:, : bounds[-1]].astype(bool), bounds[:-1], axis=1)
    return PixelGroups(members, table[1], table[0], group.view(labels.shape))


def pack_masks(masks: Tensor) -> Tensor:
    """Pack masks as bits: uint8 of shape (B, H * W), B = max(1, ceil(N / 8)); mask k is bit k % 8 of byte k // 8.

    Args:
        masks: bool or uint8 (set where not 0) of shape (N, H, W).

    Raises:
        TypeError: If masks are of another type.
    """
    require_masks(masks)
    return torch.cat([_pack(part.bool()) for part in masks.split(_PIECE)])


def pack_boxes(boxes: Tensor, size: Sequence[int]) -> Tensor:
    """Pack boxes as :func:`pack_masks` packs masks, with the pixels that :func:`~.box_fill_fusion.fill_boxes` counts.

    Args:
        boxes: Boxes (left, top, right, bottom) in pixels, of shape (N, 4).
        size: Height and width of the image in pixels.
    """
    height, width = size
    rows = torch.arange(height, device=boxes.device)
    columns = torch.arange(width, device=boxes.device)
    packed = []
    # Devices convert NaN and numbers beyond int64 to different integers.
    corners = boxes.detach().nan_to_num(nan=0.0).clamp(0, max(size)).long()
    for part in corners.split(_PIECE):
        left, top, right, bottom = part.T[..., None]
        down, across = (rows >= top) & (rows < bottom), (columns >= left) & (columns < right)
        packed.append(_pack(down[:, :, None] & across[:, None, :]))
    return torch.cat(packed)


def _pack(planes: Tensor) -> Tensor:
    """Pack planes, bool of shape (K, H, W), as bits: uint8 of shape (max(1, ceil(K / 8)), H * W)."""
    num_bytes = max(1, -(-len(planes) // 8))
    bits = F.pad(planes.flatten(1).view(torch.uint8), (0, 0, 0, 8 * num_bytes - len(planes)))
    weights = 2 ** torch.arange(8, dtype=torch.uint8, device=planes.device)
    return (bits.view(num_bytes, 8, -1) * weights[:, None]).sum(dim=1, dtype=torch.uint8)


def join_bytes(planes: Tensor) -> Tensor:
    """Join bytes of pixels to words, int64 of shape (ceil(B / 8), P): byte b becomes byte b % 8 of word b // 8.

    Args:
        planes: uint8 of shape (B, P).
    """
    planes = F.pad(planes, (0, 0, 0, -len(planes) % _BYTES))
    words = planes.view(-1, _BYTES, planes.shape[1]).transpose(1, 2)
    return words.reshape(len(words), -1).view(torch.int64)


def paste_instances(
    groups: PixelGroups, labels: Sequence[int], order: Sequence[int], overlap_thr: float, void: int
) -> tuple[np.ndarray, list[int]]:
    """Values of groups after :func:`~.instances.paste_instances`, int32 of shape (G,), and ``pasted``.

    Args:
        groups: Groups whose first set of planes is the instances' masks.
        labels, order, overlap_thr, void: See :func:`~.instances.paste_instances`.
    """
    values = np.full(len(groups.sizes), void, np.int32)
    pasted: list[int] = []
    for index in order:
        covered = np.flatnonzero(groups.members[0][:, index])
        free = covered[values[covered] == void]
        area, num_free = int(groups.sizes[covered].sum()), int(groups.sizes[free].sum())
        if num_free == 0 or (area - num_free) / area > overlap_thr:
            continue
        pasted.append(index)
        values[free] = thing_id(labels[index], len(pasted))
    return values, pasted


def paste_stuff(
    groups: PixelGroups, values: np.ndarray, num_things: int, num_stuff: int, area_limit: float
) -> tuple[np.ndarray, list[int]]:
    """Values after :func:`mmpanoptic.models.fusion.stuff.paste_stuff` in mode 'segment', and the labels of the stuff.

    Args:
        groups: Groups of pixels.
        values: Values of the groups before.
        num_things, num_stuff, area_limit: See :func:`mmpanoptic.models.fusion.stuff.paste_stuff`.
    """
    void = num_things + num_stuff
    candidates = np.where(values == void, groups.labels, num_stuff)
    areas = np.bincount(candidates, groups.sizes, num_stuff + 1)[:num_stuff]
    kept = np.flatnonzero((areas > 0) & (areas >= area_limit))
    of_label = np.full(num_stuff + 1, void, np.int32)
    of_label[kept] = kept + num_things
    return np.where(values == void, of_label[candidates], values), (kept + num_things).tolist()


def fill_boxes(
    groups: PixelGroups,
    values: np.ndarray,
    labels: Sequence[int],
    order: Sequence[int],
    pasted: Sequence[int],
    share_thr: float,
    void: int,
) -> tuple[np.ndarray, list[int]]:
    """Values after :func:`~.box_fill_fusion.fill_boxes`, and ``pasted``.

    Args:
        groups: Groups whose second set of planes is the boxes.
        values: Values of the groups before.
        labels, order, pasted, share_thr, void: See :func:`~.box_fill_fusion.fill_boxes`.
    """
    values, pasted = values.copy(), list(pasted)
    numbers = {index: k for k, index in enumerate(pasted, 1)}
    for index in order:
        in_box = np.flatnonzero(groups.members[1][:, index])
        free = in_box[values[in_box] == void]
        num_free = int(groups.sizes[free].sum())
        if num_free == 0 or num_free / int(groups.sizes[in_box].sum()) < share_thr:
            continue
        if index not in numbers:
            pasted.append(index)
            numbers[index] = len(pasted)
        values[free] = thing_id(labels[index], numbers[index])
    return values, pasted
