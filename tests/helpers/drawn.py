"""Evidence at random, with what fusion may stumble over: overlaps, ties, one-pixel and empty masks, boxes anywhere."""

from dataclasses import replace

import numpy as np
import torch
from helpers.second_device import to_gpu
from mmengine.structures import InstanceData
from torch import Tensor

from mmpanoptic.structures import EmbeddingMap, Evidence, StuffLabels, StuffLogits

T, S = 3, 4  # numbers of thing and stuff classes
STRIDE = 4


def drawn_evidence(seed: int, number: int, size: tuple[int, int], as_logits: bool = False) -> Evidence:
    """Evidence with ``number`` instances that have masks, and labels or logits of stuff."""
    rng = np.random.default_rng(seed)
    height, width = size
    masks = np.zeros((number, *size), bool)
    boxes = np.zeros((number, 4), np.float32)
    for mask, box in zip(masks, boxes, strict=True):
        top, left = rng.integers(-1, height), rng.integers(-1, width)
        down, across = rng.integers(0, height), rng.integers(0, width)
        mask[max(top, 0) : top + down, max(left, 0) : left + across] = True
        mask &= rng.random(size) < rng.choice([0.5, 1.0])
        box[:] = left + rng.random(), top, left + across, top + down + rng.random()
    if number:
        masks[0] = False
        masks[-1] = False
        masks[-1, height // 2, width // 2] = True
    instances = InstanceData(
        masks=torch.from_numpy(masks), bboxes=torch.from_numpy(boxes), **_scores_and_labels(rng, number)
    )
    if as_logits:  # whole numbers: some are equal
        stuff = StuffLogits(torch.from_numpy(rng.integers(0, 4, (S + 1, *size)).astype(np.float32)), 'stuff+other')
    else:
        coarse = rng.integers(0, S + 1, (-(-height // 3), -(-width // 3)))
        stuff = StuffLabels(torch.from_numpy(coarse.repeat(3, 0).repeat(3, 1)[:height, :width]))
    return Evidence(instances, stuff, size, size)


def drawn_embedding(
    seed: int, number: int, grid: tuple[int, int], scale: float = 1.0, semantic: bool = False
) -> Evidence:
    """Evidence with an embedding map of size ``grid``, of numbers and scales of few bits: all arithmetic is exact.

    Neighbours are often equal, a third of the queries occurs twice, and one is zero.
    """
    rng = np.random.default_rng(seed)
    dims, (rows, columns) = 5, grid

    def whole(low: int, high: int, *shape: int) -> Tensor:
        return torch.from_numpy(rng.integers(low, high, shape).astype(np.float32))

    embedding = whole(-8, 9, dims, -(-rows // 2), -(-columns // 2)) / 4
    embedding = embedding.repeat_interleave(2, 1).repeat_interleave(2, 2)[:, :rows, :columns]
    embedding = embedding + whole(-1, 2, dims, rows, columns) / 4
    queries = whole(-4, 5, S + number, dims) / 4
    queries[len(queries) * 2 // 3 :] = queries[: len(queries) - len(queries) * 2 // 3]
    queries[len(queries) // 2] = 0
    size = tuple(max(1, int(n * STRIDE / scale) - rng.integers(0, 3)) for n in grid)
    left, top = whole(-3, size[1] + 1, number), whole(-3, size[0] + 1, number)
    boxes = torch.stack([left, top, left + whole(0, size[1], number), top + whole(0, size[0], number)], dim=1) + 0.25
    instances = InstanceData(bboxes=boxes, embeddings=queries[S:].clone(), **_scores_and_labels(rng, number))
    logits = whole(-2, 3, S + 1, rows, columns) if semantic else None
    input_size = tuple(int(n * scale) for n in size)
    size = tuple(int(n / scale) for n in input_size)  # the ratio is exact
    return Evidence(instances, EmbeddingMap(embedding, queries[:S], STRIDE, logits), input_size, size)


def _scores_and_labels(rng: np.random.Generator, number: int) -> dict[str, Tensor]:
    return dict(
        scores=torch.from_numpy(rng.choice([0.1, 0.5, 0.5, 0.7, 0.9], number).astype(np.float32)),
        labels=torch.from_numpy(rng.integers(0, T, number)),
    )


def on_gpu(evidence: Evidence) -> Evidence:
    """The same on the GPU of :mod:`helpers.second_device`."""
    tensors = {name: to_gpu(value) for name, value in vars(evidence.stuff).items() if isinstance(value, Tensor)}
    return replace(evidence, instances=to_gpu(evidence.instances), stuff=replace(evidence.stuff, **tensors))
