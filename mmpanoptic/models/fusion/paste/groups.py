"""Pasting on a GPU: decisions about groups of pixels, and one gather that makes the map.

Pixels that the same instances cover, and that look like the same stuff, have the same fate. They are a group, and there
are about a thousand groups where there are a million pixels. The greedy decisions of :mod:`~.instances`,
:mod:`mmpanoptic.models.fusion.stuff` and :class:`~.box_fill_fusion.BoxFillFusion` depend on pixels by their numbers
alone; so groups and their sizes are brought to the CPU, are decided there, and their values go back. The map is that of
the functions above, bit for bit, and the number of transfers does not depend on the number of instances.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmpanoptic.models.fusion.segments import thing_id

_WORD = 64  # bits


class PixelGroups(NamedTuple):
    """Pixels by what covers them.

    Attributes:
        members: Whether a group lies in each of K planes, bool of shape (G, K), on the CPU.
        labels: Label of stuff of each group, int64 of shape (G,), on the CPU.
        sizes: Number of pixels of each group, int64 of shape (G,), on the CPU.
        group: Group of each pixel, int64 of shape (H, W), on the device of the planes.
    """

    members: np.ndarray
    labels: np.ndarray
    sizes: np.ndarray
    group: Tensor


def group_pixels(planes: Tensor, labels: Tensor) -> PixelGroups:
    """Group the pixels of an image; three synchronisations, whatever there is in it.

    Args:
        planes: K planes, bool of shape (K, H, W): masks, boxes, anything that a pixel may lie in.
        labels: Integers of shape (H, W), from 0 on.
    """
    keys = torch.cat([labels.reshape(1, -1).long(), pack_planes(planes)])
    # Runs of equal pixels first: there are far fewer of them to sort.
    is_start = torch.ones(keys.shape[1], dtype=torch.bool, device=keys.device)
    is_start[1:] = (keys[:, 1:] != keys[:, :-1]).any(dim=0)
    starts = is_start.nonzero().flatten()
    run_of_pixel = is_start.cumsum(0) - 1
    keys = keys[:, starts]
    lengths = torch.diff(starts, append=starts.new_tensor([is_start.numel()]))

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

    table = torch.cat([sizes[None], keys[:, firsts]]).cpu().numpy()
    bits = np.unpackbits(np.ascontiguousarray(table[2:].T).view(np.uint8), axis=1, bitorder='little')
    members = bits[:, : len(planes)].astype(bool)
    return PixelGroups(members, table[1], table[0], group_of_run[run_of_pixel].view(labels.shape))


def pack_planes(planes: Tensor) -> Tensor:
    """Planes as bits: int64 of shape (words, H * W), plane k at bit k % 64 of word k // 64; one word at least.

    Args:
        planes: bool of shape (K, H, W).
    """
    words = []
    for part in planes.flatten(1).view(torch.uint8).split(_WORD):
        weights = 2 ** (torch.arange(len(part), device=part.device, dtype=torch.uint8) % 8)
        part = F.pad(part * weights[:, None], (0, 0, 0, _WORD - len(part)))
        words.append(part.view(8, 8, -1).sum(dim=1, dtype=torch.uint8).T.flatten().view(torch.int64))
    return torch.stack(words)


def box_planes(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Pixels of boxes, bool of shape (N, H, W), as :func:`~.box_fill_fusion.fill_boxes` counts them."""
    height, width = size
    left, top, right, bottom = boxes.detach().clamp(min=0).long().T[..., None]
    rows = torch.arange(height, device=boxes.device)
    columns = torch.arange(width, device=boxes.device)
    inside = (rows >= top) & (rows < bottom), (columns >= left) & (columns < right)
    return inside[0][:, :, None] & inside[1][:, None, :]


def paste_instances(
    groups: PixelGroups, labels: Sequence[int], order: Sequence[int], overlap_thr: float, void: int
) -> tuple[np.ndarray, list[int]]:
    """Values of groups after :func:`~.instances.paste_instances`, int32 of shape (G,), and ``pasted``.

    Args:
        groups: Groups, the first planes of which are the instances' masks.
        labels, order, overlap_thr, void: See there.
    """
    values, pasted = np.full(len(groups.sizes), void, np.int32), []
    for index in order:
        own = np.flatnonzero(groups.members[:, index])
        free = own[values[own] == void]
        area, num_free = int(groups.sizes[own].sum()), int(groups.sizes[free].sum())
        if num_free == 0 or (area - num_free) / area > overlap_thr:
            continue
        pasted.append(index)
        values[free] = thing_id(labels[index], len(pasted))
    return values, pasted


def paste_stuff(
    groups: PixelGroups, values: np.ndarray, num_things: int, num_stuff: int, area_limit: float
) -> tuple[np.ndarray, list[int]]:
    """Values after :func:`mmpanoptic.models.fusion.stuff.paste_stuff` by segment, and the labels of the stuff.

    Args:
        groups: Groups, of which ``labels`` are those of stuff.
        values: Values of the groups before.
        num_things, num_stuff, area_limit: See there.
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
    first_box: int,
    labels: Sequence[int],
    order: Sequence[int],
    pasted: Sequence[int],
    share_thr: float,
    void: int,
) -> tuple[np.ndarray, list[int]]:
    """Values after :func:`~.box_fill_fusion.fill_boxes`, and ``pasted``.

    Args:
        groups: Groups, of which the planes from ``first_box`` on are the boxes.
        values: Values of the groups before.
        first_box: Plane of the first instance's box.
        labels, order, pasted, share_thr, void: See there.
    """
    values, pasted = values.copy(), list(pasted)
    numbers = {index: k for k, index in enumerate(pasted, 1)}
    for index in order:
        own = np.flatnonzero(groups.members[:, first_box + index])
        free = own[values[own] == void]
        num_free = int(groups.sizes[free].sum())
        if num_free == 0 or num_free / int(groups.sizes[own].sum()) < share_thr:
            continue
        if index not in numbers:
            pasted.append(index)
            numbers[index] = len(pasted)
        values[free] = thing_id(labels[index], numbers[index])
    return values, pasted
