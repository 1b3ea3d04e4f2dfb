"""How sure a model is of stuff that tiles show, by the plain formula: mean logits pixel by pixel, then mean softmax."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from fixtures.tiny_model import CIAE, OANET, SHAPES, SPATIALFLOW, write_tiny_model
from helpers.second_device import SecondDevice, to_gpu
from mmengine.structures import InstanceData
from torch.nn.functional import interpolate, normalize

from mmpanoptic.apis import PanopticInferencer
from mmpanoptic.apis.tiled import predict_tiles
from mmpanoptic.apis.tiles import cores, spans
from mmpanoptic.models import EmbeddingFusion, HeuristicFusion
from mmpanoptic.structures import EmbeddingMap, Evidence, StuffLabels, StuffLogits

T, S = 2, 3
SIZE, TILE, OVERLAP = (70, 110), (40, 48), 14
FIRST, CHANNELS = {'stuff': 0, 'stuff+other': 0, 'all': T}, {'stuff': S, 'stuff+other': S + 1, 'all': T + S}
# An image whose pixels say where they are.
IMAGE = np.stack([*np.indices(SIZE), np.zeros(SIZE)], axis=-1).astype(np.uint8)


def place_of(crop: np.ndarray) -> tuple[int, int]:
    """Top and left side of a tile."""
    return int(crop[0, 0, 0]), int(crop[0, 0, 1])


def soft(channels: int, size: tuple[int, int], seed: tuple[int, ...]) -> torch.Tensor:
    """Logits that vary from tile to tile and over some pixels."""
    draw = torch.Generator().manual_seed(int(''.join(map(str, seed))))
    coarse = torch.randn(1, channels, 5, 6, generator=draw)
    return interpolate(2 * coarse, size, mode='bilinear')[0]


def a_thing(crop: np.ndarray, **more) -> InstanceData:
    """The same rectangle of the image in each tile that sees it."""
    inside = (crop[..., 0] >= 20) & (crop[..., 0] < 45) & (crop[..., 1] >= 30) & (crop[..., 1] < 60)
    return InstanceData(
        masks=torch.from_numpy(inside[None]),
        labels=torch.zeros(1, dtype=torch.long),
        scores=torch.tensor([0.9]),
        bboxes=torch.tensor([[0.0, 0, crop.shape[1], crop.shape[0]]]),
        **more,
    )


def tiles() -> list[tuple[slice, slice, slice, slice]]:
    """Rows and columns of all tiles, and of the cores of these."""
    sides = [spans(side, tile, OVERLAP) for side, tile in zip(SIZE, TILE, strict=True)]
    rows, columns = (
        [(slice(*whole), slice(*core)) for whole, core in zip(one, cores(one), strict=True)] for one in sides
    )
    return [(row, column, core_row, core_column) for row, core_row in rows for column, core_column in columns]


def mean_logits(logits_of: Callable[[int, int], torch.Tensor]) -> np.ndarray:
    """Mean of all tiles' logits, weighted by the distance to a tile's border in steps, float64 of shape (C, H, W)."""
    total, weights = 0.0, np.zeros(SIZE)
    for rows, columns, _, _ in tiles():
        y, x = np.mgrid[rows, columns]
        down = np.minimum(y - rows.start, rows.stop - 1 - y) + 1
        across = np.minimum(x - columns.start, columns.stop - 1 - x) + 1
        own = np.zeros((len(logits_of(0, 0)), *SIZE))
        own[:, rows, columns] = logits_of(rows.start, columns.start).numpy() * (down * across)
        weights[rows, columns] += down * across
        total = total + own
    return total / weights


def checked(panoptic: np.ndarray, segments: list[dict], confidence: np.ndarray, abs: float = 2e-5) -> None:
    """Each stuff segment's score is the mean of what its class has at its pixels, of shape (S, H, W)."""
    stuff = [segment for segment in segments if T <= segment['label'] < T + S and segment['id'] < 1000]
    assert len(stuff) >= 2
    for segment in stuff:
        expected = confidence[segment['label'] - T][panoptic == segment['id']].mean()
        assert segment['score'] == pytest.approx(max(expected, 0.0), abs=abs)
    assert len({round(segment['score'], 3) for segment in stuff}) == len(stuff)


@pytest.mark.parametrize('mode', ['segment', 'component'])
@pytest.mark.parametrize('channels', CHANNELS)
def test_logits(channels: str, mode: str):
    """What is small and left out does not count, and what things cover neither."""

    def logits_of(top: int, left: int) -> torch.Tensor:
        return soft(CHANNELS[channels], TILE, (top, left))

    def evidence(crop: np.ndarray) -> Evidence:
        stuff = StuffLogits(logits_of(*place_of(crop)), channels)
        return Evidence(a_thing(crop), stuff, crop.shape[:2], crop.shape[:2])

    head = HeuristicFusion(T, S, score_thr=0.1, stuff_area_limit=300, stuff_area_mode=mode)
    panoptic, segments = predict_tiles(IMAGE, head, evidence, TILE, OVERLAP)
    logits = mean_logits(logits_of)
    softmax = np.exp(logits) / np.exp(logits).sum(0)
    checked(panoptic, segments, softmax[FIRST[channels] :])
    best = logits[FIRST[channels] :][: S + (channels == 'stuff+other')].argmax(0)
    assert np.mean(panoptic[panoptic < T + S] == best[panoptic < T + S] + T) > 0.99
    if mode == 'component':
        assert ((panoptic == T + S) & (best < S)).any()  # else nothing was left out


def test_logits_on_a_gpu():
    def evidence(crop: np.ndarray, move: Callable = lambda tensor: tensor) -> Evidence:
        stuff = StuffLogits(move(soft(S + 1, TILE, place_of(crop))), 'stuff+other')
        instances = a_thing(crop)
        instances = InstanceData(**{name: move(value) for name, value in instances.items()})
        return Evidence(instances, stuff, crop.shape[:2], crop.shape[:2])

    head = HeuristicFusion(T, S, score_thr=0.1, stuff_area_limit=0)
    panoptic, segments = predict_tiles(IMAGE, head, evidence, TILE, OVERLAP)
    with SecondDevice():
        there, others = predict_tiles(IMAGE, head, lambda crop: evidence(crop, to_gpu), TILE, OVERLAP)
    np.testing.assert_array_equal(there, panoptic)
    for one, other in zip(segments, others, strict=True):
        assert one == pytest.approx(other, abs=1e-6)


@pytest.mark.parametrize('known', [True, False])
def test_labels(known: bool):
    """A pixel's class and what is said about it are those of the tile that it is the core of."""
    logits = {
        (rows.start, columns.start): soft(S + 1, TILE, (rows.start, columns.start)) for rows, columns, _, _ in tiles()
    }

    def evidence(crop: np.ndarray) -> Evidence:
        own = logits[place_of(crop)]
        stuff = StuffLabels(own.argmax(0), own if known or place_of(crop) != (0, 0) else None)
        return Evidence(a_thing(crop), stuff, crop.shape[:2], crop.shape[:2])

    head = HeuristicFusion(T, S, score_thr=0.1, stuff_area_limit=0)
    panoptic, segments = predict_tiles(IMAGE, head, evidence, TILE, OVERLAP)
    if not known:
        assert {segment['score'] for segment in segments if segment['id'] < 1000} == {None}
        return
    softmax = np.zeros((S + 1, *SIZE))
    for rows, columns, core_rows, core_columns in tiles():
        inner = (
            slice(None),
            slice(core_rows.start - rows.start, core_rows.stop - rows.start),
            slice(core_columns.start - columns.start, core_columns.stop - columns.start),
        )
        softmax[:, core_rows, core_columns] = logits[rows.start, columns.start].softmax(0).numpy()[inner]
    checked(panoptic, segments, softmax)


@pytest.mark.parametrize('semantic', [False, True])
def test_embeddings(semantic: bool):
    """Maps with a centre for each pixel: interpolation gives the centres themselves."""
    draw = torch.Generator().manual_seed(0)
    queries = normalize(torch.randn(S + 1, 5, generator=draw), dim=1)

    def maps_of(top: int, left: int) -> EmbeddingMap:
        branch = soft(S + 1, TILE, (9, top, left)) if semantic else None
        return EmbeddingMap(soft(5, TILE, (top, left)), queries[:S], 1, branch)

    def evidence(crop: np.ndarray) -> Evidence:
        instances = a_thing(crop, embeddings=queries[S:])
        return Evidence(instances, maps_of(*place_of(crop)), crop.shape[:2], crop.shape[:2])

    head = EmbeddingFusion(T, S, score_thr=0.1, stuff_area_limit=0)
    panoptic, segments = predict_tiles(IMAGE, head, evidence, TILE, OVERLAP)
    values = np.zeros((S, *SIZE))
    for rows, columns, core_rows, core_columns in tiles():
        maps = maps_of(rows.start, columns.start)
        if semantic:
            found = maps.semantic.softmax(0)[:S]
        else:
            found = torch.einsum('sd,dhw->shw', queries[:S], normalize(maps.embedding, dim=0))
        inner = (
            slice(None),
            slice(core_rows.start - rows.start, core_rows.stop - rows.start),
            slice(core_columns.start - columns.start, core_columns.stop - columns.start),
        )
        values[:, core_rows, core_columns] = found.numpy()[inner]
    checked(panoptic, segments, values)


@pytest.mark.parametrize('base', [SHAPES, OANET, SPATIALFLOW, CIAE])
def test_one_tile_is_the_image_as_a_whole(base: str, tmp_path):
    """Where a segment is judged by some of its pixels as a whole, and by all of them in tiles, it is estimated."""
    tiny = write_tiny_model(tmp_path, base)
    inferencer = PanopticInferencer(tiny.config, tiny.checkpoint, device='cpu')
    image = str(tiny.images / '07.png')
    (expected,) = inferencer(image)
    found = inferencer.tiled(image, (64, 96), 8)
    scores = {one.label: one.score for one in found.segments if not one.isthing}
    assert scores
    for one in expected.segments:
        if not one.isthing:
            close = 2e-5 if one.area <= 1024 or base in (SPATIALFLOW, CIAE) else 0.015
            assert scores[one.label] == pytest.approx(one.score, abs=close)
    several = inferencer.tiled(image, (40, 48), 8)
    assert all(0 <= one.score <= 1 for one in several.segments)
