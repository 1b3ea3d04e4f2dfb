"""Pictures of packed samples: the map that is trained on, what is ignored, and boxes."""

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData, PixelData

from mmpanoptic.visualization import PanopticVisualizer
from mmpanoptic.visualization.training import draw_training, fits, training_map

SIZE = (40, 60)
PERSON, TIE, SKY, ROAD, VOID = 0, 1, 2, 3, 255


def instances(*boxes: tuple[int, int, int, int, int]) -> InstanceData:
    """Whole rectangles (top, left, bottom, right, label)."""
    masks = np.zeros((len(boxes), *SIZE), np.uint8)
    for mask, (top, left, bottom, right, _) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = 1
    bitmaps = BitmapMasks(masks, *SIZE)
    return InstanceData(
        masks=bitmaps,
        bboxes=bitmaps.get_bboxes(HorizontalBoxes),
        labels=torch.tensor([box[4] for box in boxes], dtype=torch.int64),
    )


@pytest.fixture
def sample() -> DetDataSample:
    """Sky over road, two persons, the first with a tie in front; a crowd; void on the left; a thing of no instance."""
    semantic = np.full(SIZE, SKY)
    semantic[30:] = ROAD
    semantic[:, :3] = VOID
    semantic[5:25, 10:20] = semantic[5:25, 30:40] = PERSON
    semantic[8:16, 13:17] = TIE
    semantic[32:38, 40:55] = PERSON
    semantic[0:2, 50:60] = TIE
    return DetDataSample(
        gt_sem_seg=PixelData(sem_seg=torch.from_numpy(semantic)[None].to(torch.uint8)),
        gt_instances=instances((8, 13, 16, 17, TIE), (5, 10, 25, 20, PERSON), (5, 30, 25, 40, PERSON)),
        ignored_instances=instances((32, 40, 38, 55, PERSON)),
    )


@pytest.fixture
def visualizer() -> PanopticVisualizer:
    made = PanopticVisualizer(name='test_training')
    made.dataset_meta = dict(
        classes=('person', 'tie', 'sky', 'road'), palette=[(220, 20, 60), (0, 200, 0), (0, 0, 250), (120, 120, 120)]
    )
    return made


def test_the_map_that_is_trained_on(sample):
    ids, segments = training_map(sample)
    assert [(segment['label'], segment.get('iscrowd')) for segment in segments] == [
        (PERSON, 1), (TIE, 0), (PERSON, 0), (PERSON, 0), (TIE, None), (SKY, None), (ROAD, None)
    ]  # fmt: skip
    label_of = {segment['id']: segment['label'] for segment in segments} | {0: VOID}
    np.testing.assert_array_equal(np.vectorize(label_of.get)(ids), sample.gt_sem_seg.sem_seg[0].numpy())
    crowd, tie, first, second, rest, *_ = (segment['id'] for segment in segments)
    assert ids[10, 14] == tie and ids[6, 11] == first and ids[6, 31] == second and ids[0, 59] == rest
    assert ids[33, 41] == crowd and (ids == first).sum() == 200 - 32
    # The semantic map tells what is in front, whatever the sizes are.
    sample.gt_sem_seg.sem_seg[0, 8:16, 13:17] = PERSON
    ids, _ = training_map(sample)
    assert ids[10, 14] == first and (ids == first).sum() == 200 and not (ids == tie).any()


def test_the_picture(sample, visualizer):
    canvas = np.full((2 * SIZE[0], 2 * SIZE[1], 3), 200, np.uint8)
    picture = draw_training(visualizer, canvas, 2, sample)
    without = visualizer.draw_map(canvas, 2, *training_map(sample))
    changed = (picture != without).any(axis=2)
    assert changed[10:50, [20, 39]].mean() > 0.9, 'sides of the box of the first person'
    assert not changed[2:60, 44:59].any(), 'nothing is trained on there'
    dashed = changed[[64, 75], 80:110]
    assert 0.2 < dashed.mean() < 0.8, 'the box of the crowd is dashed'
    inside = (picture == 255).all(axis=2)[66:74, 84:106]
    assert 0.05 < inside.mean() < 0.5, 'the crowd is hatched'
    assert (canvas == 200).all()
    # The hidden part of a mask has a line in the colour of its box.
    tie_side = picture[20, 20:40]
    assert (tie_side == picture[10, 20]).all(axis=1).sum() >= 1


def test_without_a_semantic_map_or_instances(sample, visualizer):
    canvas = np.full((*SIZE, 3), 200, np.uint8)
    stuff = DetDataSample(gt_sem_seg=sample.gt_sem_seg, gt_instances=instances(), ignored_instances=instances())
    assert (draw_training(visualizer, canvas, 1, stuff) != 200).any()
    things = DetDataSample(gt_instances=sample.gt_instances, ignored_instances=sample.ignored_instances)
    picture = draw_training(visualizer, canvas, 1, things)
    assert (picture[35, 40:56] != 200).any() and (picture[:4] == 200).all()
    assert (draw_training(visualizer, canvas, 1, DetDataSample(gt_instances=instances())) == 200).all()


def test_annotations_of_the_original_size_are_told_apart(sample):
    assert fits(sample, SIZE) and not fits(sample, (80, 120))
    alone = DetDataSample(gt_instances=sample.gt_instances)
    assert fits(alone, SIZE) and not fits(alone, (80, 120))
    assert fits(DetDataSample(), (80, 120))
