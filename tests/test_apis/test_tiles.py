"""Tiles put together, beside the same image as a whole."""

import itertools

import cv2
import numpy as np
import pytest
import torch
from fixtures.tiny_model import CIAE, OANET, SHAPES, SPATIALFLOW, write_tiny_model
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData, PixelData

from mmpanoptic.apis import PanopticInferencer
from mmpanoptic.apis.tiled import predict_tiles, require_tiles
from mmpanoptic.apis.tiles import cells, cores, same_things, spans
from mmpanoptic.apis.to_result import to_result
from mmpanoptic.models import HeuristicFusion
from mmpanoptic.structures import Evidence, StuffLabels, StuffLogits
from mmpanoptic.utils import DatasetError, UserError

T, S = 2, 3
VOID = T + S


class Scene:
    """Drawn things on stuff, and a network that sees a crop of it without error; places are in the image's red."""

    def __init__(self, height: int, width: int, logits: bool = True) -> None:
        self.masks = np.zeros((0, height, width), bool)
        self.labels: list[int] = []
        self.stuff = np.repeat(np.arange(S), -(-width // S))[None, :width].repeat(height, axis=0)
        self.logits = logits
        rows, columns = np.indices((height, width))
        self.image = np.stack([rows % 256, columns % 256, rows // 256 * 16 + columns // 256], axis=-1).astype(np.uint8)

    def circle(self, x: int, y: int, radius: int, label: int = 0) -> None:
        mask = np.zeros(self.stuff.shape, np.uint8)
        cv2.circle(mask, (x, y), radius, 1, -1)
        self.masks = np.concatenate([self.masks, mask[None].astype(bool)])
        self.labels.append(label)

    def evidence(self, crop: np.ndarray) -> Evidence:
        code = crop[0, 0].astype(int)
        top, left = code[0] + code[2] // 16 * 256, code[1] + code[2] % 16 * 256
        place = slice(top, top + crop.shape[0]), slice(left, left + crop.shape[1])
        seen = [i for i, mask in enumerate(self.masks) if mask[place].any()]
        masks = torch.from_numpy(
            np.stack([self.masks[i][place] for i in seen]) if seen else self.masks[(slice(0), *place)]
        )
        instances = InstanceData(
            masks=masks,
            labels=torch.tensor([self.labels[i] for i in seen], dtype=torch.long),
            scores=torch.tensor([0.9 - 0.01 * i for i in seen]),
            bboxes=torch.zeros(len(seen), 4),
        )
        labels = torch.from_numpy(self.stuff[place])
        logits = torch.nn.functional.one_hot(labels, S + 1).permute(2, 0, 1).float()
        stuff = StuffLogits(logits, 'stuff+other') if self.logits else StuffLabels(labels)
        return Evidence(instances, stuff, crop.shape[:2], crop.shape[:2])


def head(**options) -> HeuristicFusion:
    return HeuristicFusion(T, S, **(dict(score_thr=0.1, overlap_thr=0.5, stuff_area_limit=1) | options))


def together(scene: Scene, tile: tuple[int, int], overlap: int, **options) -> tuple[np.ndarray, list[dict]]:
    return predict_tiles(scene.image, head(**options), scene.evidence, tile, overlap)


def untiled(scene: Scene, **options) -> tuple[np.ndarray, list[dict]]:
    panoptic, segments = head(**options).fuse(scene.evidence(scene.image))
    return panoptic.numpy(), segments


def same_segments(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two maps differ at most in the numbers of their things."""
    pairs = np.unique(np.stack([one.ravel(), other.ravel()]), axis=1)
    classes = (pairs % 1000)[:, :].tolist()
    return classes[0] == classes[1] and len(set(pairs[0].tolist())) == len(set(pairs[1].tolist())) == pairs.shape[1]


@given(st.integers(1, 900), st.integers(2, 300), st.data())
@settings(max_examples=200, deadline=None)
def test_spans_cover_a_side(length, tile, data):
    overlap = data.draw(st.integers(0, tile - 1))
    found = spans(length, tile, overlap)
    assert found[0][0] == 0 and found[-1][1] == length
    assert all(end - start == min(tile, length) for start, end in found)
    assert all(left[1] - right[0] >= overlap for left, right in itertools.pairwise(found))
    inner = cores(found)
    assert [c[0] for c in inner[1:]] == [c[1] for c in inner[:-1]] and (inner[0][0], inner[-1][1]) == (0, length)
    assert all(s[0] <= c[0] < c[1] <= s[1] for s, c in zip(found, inner, strict=True))
    pieces = cells(found)
    assert sum((end - start) * number for (start, end), number in pieces) == sum(end - start for start, end in found)


@pytest.mark.parametrize('overlap', [-1, 100, 170])
def test_overlaps_that_do_not_go_with_tiles(overlap):
    with pytest.raises(UserError, match=f'overlap {overlap} does not go with tiles of 100 pixels: it must be less'):
        spans(300, 100, overlap)


def test_an_image_of_one_tile_is_as_ever():
    scene = Scene(90, 120)
    scene.circle(60, 40, 20)
    scene.circle(70, 45, 20, label=1)
    panoptic, segments = together(scene, (100, 200), 20)
    expected, as_ever = untiled(scene)
    np.testing.assert_array_equal(panoptic, expected)
    assert [dict(s, score=None) for s in segments] == [dict(id=s['id'], label=s['label'], score=None) for s in as_ever]
    scores, scores_as_ever = ([s['score'] for s in found if s['id'] >= 1000] for found in (segments, as_ever))
    assert scores == scores_as_ever


@pytest.mark.parametrize('logits', [True, False])
@pytest.mark.parametrize('tile', [(64, 64, 20), (50, 90, 20), (120, 70, 20), (64, 64, 50)])
def test_things_across_seams_are_one(tile, logits):
    scene = Scene(200, 300, logits)
    scene.circle(60, 60, 25)  # over a corner of four tiles of 64
    scene.circle(150, 100, 60)  # larger than a tile
    scene.circle(250, 30, 12, label=1)
    scene.circle(273, 30, 12, label=1)  # the same class, and they touch
    scene.circle(20, 180, 15)
    panoptic, segments = together(scene, tile[:2], tile[2])
    expected, _ = untiled(scene)
    assert same_segments(panoptic, expected)
    assert sum(s['id'] >= 1000 for s in segments) == 5 and len({s['id'] for s in segments}) == len(segments)
    assert sorted(s['score'] for s in segments if s['id'] >= 1000) == pytest.approx([0.86, 0.87, 0.88, 0.89, 0.9])


def test_things_of_two_classes_are_never_one():
    scene = Scene(60, 150)
    scene.circle(75, 30, 20)
    evidence = scene.evidence

    def changing(crop: np.ndarray) -> Evidence:  # the right tile takes it for another class
        found = evidence(crop)
        found.instances.labels[:] = int(crop[0, 0, 1] > 0)
        return found

    panoptic, segments = predict_tiles(scene.image, head(), changing, (60, 90), 30)
    assert [s['label'] for s in segments if s['id'] >= 1000] == [0, 1]
    assert {s['id'] for s in segments} == set(np.unique(panoptic).tolist())


def test_what_shares_nothing_in_the_overlap_is_not_one():
    one = np.array([[1, 1, 0, 2], [1, 1, 0, 2]])
    other = np.array([[0, 5, 5, 5], [0, 5, 5, 5]])
    assert same_things(one, other, 0.5) == []
    assert same_things(one, other, 0.2) == [(1, 5), (2, 5)]
    assert same_things(one, np.where(one == 1, 7, 0), 0.5) == [(1, 7)]


def test_stuff_is_decided_on_the_mean_of_logits():
    """Both tiles see the overlap, one is sure of class 0, the other doubtful about 1."""
    scene = Scene(40, 150)

    def doubtful(crop: np.ndarray) -> Evidence:
        left = crop[0, 0, 1] == 0
        logits = torch.zeros(S + 1, *crop.shape[:2])
        logits[0 if left else 1] = 10.0 if left else 1.0
        return Evidence(
            scene.evidence(crop).instances, StuffLogits(logits, 'stuff+other'), crop.shape[:2], crop.shape[:2]
        )

    panoptic, _ = predict_tiles(scene.image, head(), doubtful, (40, 90), 30)
    # Tiles 0 to 90 and 60 to 150: at x the weights are 90 - x and x - 59 (up to 20, which the height allows).
    assert (panoptic[20, :88] == T).all() and (panoptic[20, 90:] == T + 1).all()


@pytest.mark.parametrize('mode', ['segment', 'component'])
def test_the_area_limit_is_of_the_whole_image(mode):
    """200 pixels of a class in each of many tiles are enough for a limit of 1000; 900 in all are not."""
    scene = Scene(200, 300)
    scene.stuff[:] = 0
    scene.stuff[100, :] = 1  # 300 pixels across all tiles
    scene.stuff[:3, :] = 2  # 900
    for limit, kept in ((300, {T, T + 1, T + 2}), (301, {T, T + 2}), (901, {T})):
        options = dict(stuff_area_limit=limit, stuff_area_mode=mode)
        panoptic, segments = together(scene, (64, 64), 16, **options)
        np.testing.assert_array_equal(panoptic, untiled(scene, **options)[0])
        assert {s['id'] for s in segments} == kept


@pytest.mark.parametrize('base', [SHAPES, OANET, SPATIALFLOW, CIAE])
def test_every_system(base, tmp_path):
    """One tile is the image as a whole; several give a map of its size whose segments are all listed."""
    tiny = write_tiny_model(tmp_path, base)
    inferencer = PanopticInferencer(tiny.config, tiny.checkpoint, device='cpu')
    image = str(tiny.images / '07.png')
    (expected,) = inferencer(image)
    whole = inferencer.tiled(image, (64, 96), 8)
    np.testing.assert_array_equal(whole.id_map > 0, expected.id_map > 0)
    np.testing.assert_array_equal(whole.id_map % 1000, expected.id_map % 1000)
    assert len(whole.segments) == len(expected.segments) and whole.path == image
    several = inferencer.tiled(image, (40, 48), 8)
    assert set(np.unique(several.id_map)) - {0} == {segment.id for segment in several.segments}
    assert several.id_map.shape == (64, 96)


def test_models_of_instances_are_refused():
    with pytest.raises(UserError, match='Linear gives no panoptic map that tiles could be merged into'):
        require_tiles(torch.nn.Linear(1, 1))


def test_more_things_than_ids_are_told():
    """The 16777th thing has the last id of 24 bits."""
    categories = [dict(id=1, name='ball', isthing=1, color=[0, 0, 0])]
    for last, fits in ((16777, True), (16778, False)):
        values = [1000, 1000 * last]
        segments = [dict(id=value, label=0, score=0.5) for value in values]
        found = PixelData(sem_seg=torch.tensor([[values]], dtype=torch.int32), metainfo=dict(segments_info=segments))
        sample = DetDataSample(pred_panoptic_seg=found)
        image = np.zeros((1, 2, 3), np.uint8)
        if fits:
            assert to_result(sample, 'a.png', image, categories).id_map.max() == 1000 * last + 1
        else:
            with pytest.raises(DatasetError, match=r'a\.png has 2 things, and a PNG has ids for 16777: predict parts'):
                to_result(sample, 'a.png', image, categories)
