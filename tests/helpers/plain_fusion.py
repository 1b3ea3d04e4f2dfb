"""Fusion once more, instance after instance and pixel after pixel, as its definitions say it: the reference of tests.

No function here shares code with :mod:`mmpanoptic.models.fusion`.
"""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from mmpanoptic.structures import EmbeddingMap, Evidence, StuffLabels

OFFSET = 1000


def by_score(evidence: Evidence, score_thr: float, ranks: Sequence[Sequence[float]] = ()) -> list[int]:
    """Instances in the order of pasting: by falling ranks, the first ones first, then scores, then rising index."""
    if not len(evidence.instances):
        return []
    scores = evidence.instances.scores.tolist()
    kept = [i for i, score in enumerate(scores) if score >= np.float32(score_thr)]
    return sorted(kept, key=lambda i: (*(-rank[i] for rank in ranks), -scores[i], i))


def paste(
    evidence: Evidence,
    classes: tuple[int, int],
    order: Sequence[int],
    overlap_thr: float,
    stuff_area_limit: float,
    stuff_area_mode: str = 'segment',
    box_fill_thr: float | None = None,
) -> tuple[np.ndarray, list[dict]]:
    """Map and segments of pasting masks in an order, then stuff, then, with ``box_fill_thr``, boxes."""
    num_things, num_stuff = classes
    void = num_things + num_stuff
    result = np.full(evidence.output_size, void, np.int32)
    instances, pasted = evidence.instances, []
    labels = instances.labels.tolist() if len(instances) else []
    for i in order:
        mask = instances.masks[i].numpy() != 0
        free = mask & (result == void)
        if not free.any() or (mask.sum() - free.sum()) / mask.sum() > overlap_thr:
            continue
        pasted.append(i)
        result[free] = labels[i] + OFFSET * len(pasted)
    stuff = _fill_stuff(result, _stuff_labels(evidence, num_things), classes, stuff_area_limit, stuff_area_mode)
    for i in order if box_fill_thr is not None else ():
        left, top, right, bottom = (max(0, int(side)) for side in instances.bboxes[i].tolist())
        part = result[top:bottom, left:right]
        free = part == void
        if not free.any() or free.mean() < box_fill_thr:
            continue
        if i not in pasted:
            pasted.append(i)
        part[free] = labels[i] + OFFSET * (pasted.index(i) + 1)
    return result, _segments(evidence, pasted, stuff)


def assign(
    evidence: Evidence,
    classes: tuple[int, int],
    score_thr: float,
    stuff_area_limit: float,
    stuff_area_mode: str = 'segment',
) -> tuple[np.ndarray, list[dict]]:
    """Map and segments of giving each pixel to the query with the largest product, the lowest of equals, in float64."""
    num_things, num_stuff = classes
    maps, instances, void = evidence.stuff, evidence.instances, num_things + num_stuff
    kept = [i for i in range(len(instances)) if instances.scores[i] >= np.float32(score_thr)]
    points = _read(maps.embedding, evidence)
    products = [np.full(evidence.output_size, -np.inf)] * num_stuff if maps.semantic is not None else [
        np.tensordot(query, points, 1) for query in maps.stuff_queries.double().numpy()
    ]  # fmt: skip
    y, x = (np.arange(n) + 0.5 for n in evidence.output_size)
    for i in kept:
        left, top, right, bottom = instances.bboxes[i].double().tolist()
        inside = ((y >= top) & (y < bottom))[:, None] & ((x >= left) & (x < right))
        product = np.tensordot(instances.embeddings[i].double().numpy(), points, 1)
        products.append(np.where(inside, product, -np.inf))
    products = np.stack([*products, np.full(evidence.output_size, -1e300)])  # the last one: no query
    query = products.argmax(axis=0)
    if maps.semantic is not None:
        semantic = _read(maps.semantic, evidence).argmax(axis=0)
        query = np.where(semantic == num_stuff, query, semantic)
    result = np.full(evidence.output_size, void, np.int32)
    pasted = []
    for place, i in enumerate(kept, num_stuff):
        if (query == place).any():
            pasted.append(i)
            result[query == place] = instances.labels[i].item() + OFFSET * len(pasted)
    stuff = _fill_stuff(result, query, classes, stuff_area_limit, stuff_area_mode)
    return result, _segments(evidence, pasted, stuff)


def _read(maps: Tensor, evidence: Evidence) -> np.ndarray:
    """A network's map at the pixels, float64 of shape (D, H, W)."""
    values = maps.double().numpy()
    for axis, (size, seen) in enumerate(zip(evidence.output_size, evidence.input_size, strict=True), 1):
        length = values.shape[axis]
        at = ((np.arange(size) + 0.5) * (seen / size) / evidence.stuff.stride - 0.5).clip(0, length - 1)
        low = at.astype(int)
        weight = (at - low).reshape((-1, 1) if axis == 1 else (-1,))
        high = (low + 1).clip(max=length - 1)
        values = values.take(low, axis) * (1 - weight) + values.take(high, axis) * weight
    return values


def _stuff_labels(evidence: Evidence, num_things: int) -> np.ndarray:
    assert not isinstance(evidence.stuff, EmbeddingMap)
    if isinstance(evidence.stuff, StuffLabels):
        return evidence.stuff.labels.numpy()
    logits = evidence.stuff.logits.numpy()
    return logits[num_things if evidence.stuff.channels == 'all' else 0 :].argmax(axis=0)


def _fill_stuff(
    result: np.ndarray, labels: np.ndarray, classes: tuple[int, int], area_limit: float, area_mode: str
) -> list[int]:
    """Stuff on void pixels of ``result``, which is changed; the labels of what got some."""
    num_things, num_stuff = classes
    void, found = sum(classes), []
    for label in range(num_stuff):
        free = (result == void) & (labels == label)
        for part in [free] if area_mode == 'segment' else _components(free):
            if part.any() and part.sum() >= area_limit:
                result[part] = num_things + label
                found.append(num_things + label)
    return sorted(set(found))


def _components(mask: np.ndarray) -> list[np.ndarray]:
    """8-connected components by flooding."""
    components, left = [], {tuple(pixel) for pixel in np.argwhere(mask).tolist()}
    while left:
        found, edge = np.zeros_like(mask), [left.pop()]
        while edge:
            row, column = edge.pop()
            found[row, column] = True
            near = {(row + down, column + across) for down in (-1, 0, 1) for across in (-1, 0, 1)} & left
            left -= near
            edge += near
        components.append(found)
    return components


def _segments(evidence: Evidence, pasted: list[int], stuff: list[int]) -> list[dict]:
    instances = evidence.instances
    things = [
        dict(id=label + OFFSET * k, label=label, score=instances.scores[i].item(), instance=i)
        for k, (i, label) in enumerate(((i, instances.labels[i].item()) for i in pasted), 1)
    ]
    return things + [dict(id=label, label=label, score=None, instance=None) for label in stuff]
