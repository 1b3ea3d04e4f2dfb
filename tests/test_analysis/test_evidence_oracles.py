"""Evidence in which one thing is wrong: the oracle of that thing makes it right, and no other does."""

import numpy as np
import pytest
import torch
from helpers.evidence import evidence_of, instances_of, mask_of
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData

from mmpanoptic.analysis.oracle_scores import choose, combinations
from mmpanoptic.analysis.oracles import ORACLES, fitting_map, mended, stretched, subject_of
from mmpanoptic.evaluation.panoptic_quality import accumulate, average, match_segments
from mmpanoptic.models import BoxFillFusion, EmbeddingFusion, HeuristicFusion
from mmpanoptic.structures import EmbeddingMap, Evidence, StuffLabels, StuffLogits
from mmpanoptic.utils import UserError

SIZE, THINGS, STUFF = (32, 40), 2, 2
# (top, bottom, left, right): the second lies in front of the first, the third is alone.
BOXES = [(4, 16, 6, 20), (8, 20, 14, 28), (20, 30, 28, 38)]
LABELS = [0, 1, 0]
CATEGORIES = [dict(id=label + 1, label=label, isthing=label < THINGS) for label in range(THINGS + STUFF)]
HEAD = HeuristicFusion(THINGS, STUFF, score_thr=0.5, overlap_thr=0.5, stuff_area_limit=0)


def shifted(box, down=2, right=1):
    top, bottom, left, right_end = box
    return top + down, bottom + down, left + right, right_end + right


def true_masks() -> torch.Tensor:
    return torch.stack([mask_of(SIZE, box) for box in BOXES])


def sections() -> np.ndarray:
    """Contiguous stuff labels: two halves."""
    labels = np.full(SIZE, THINGS, np.uint8)
    labels[16:] = THINGS + 1
    return labels


def annotation() -> dict:
    """What the loader gives for the scene; ids are labels + 1 of stuff, and from 10 on things."""
    seg_map, ids = sections(), sections().astype(np.int32) + 1
    for number, (mask, label) in enumerate(zip(true_masks().numpy(), LABELS, strict=True)):
        seg_map[mask], ids[mask] = label, 10 + number
    seg_map[0], ids[0] = 255, 0
    found = [(int(one), LABELS[one - 10] if one >= 10 else int(one) - 1) for one in np.unique(ids) if one]
    infos = [
        dict(id=one, label=label, is_thing=label < THINGS, iscrowd=0, area=int((ids == one).sum()))
        for one, label in found
    ]
    return dict(
        gt_ignore_flags=np.zeros(3, bool),
        gt_masks=BitmapMasks(true_masks().numpy().astype(np.uint8), *SIZE),
        gt_bboxes_labels=np.array(LABELS),
        gt_panoptic_map=ids,
        gt_seg_map=seg_map,
        segments_info=infos,
        img_path='scene.png',
    )


def right(**changes) -> Evidence:
    """The scene as it is, but for some of ``boxes``, ``masks``, ``labels``, ``scores`` and ``stuff``."""
    parts = dict(boxes=None, masks=true_masks(), labels=LABELS, scores=[0.6, 0.8, 0.7], stuff=sections()) | changes
    instances = instances_of(parts['masks'], parts['labels'], parts['scores'], parts['boxes'])
    return evidence_of(instances, StuffLabels(torch.from_numpy(parts['stuff']).long() - THINGS))


def xyxy(boxes) -> list[list[int]]:
    return [[left, top, right_end, bottom] for top, bottom, left, right_end in boxes]


def masks_of(boxes) -> torch.Tensor:
    return torch.stack([mask_of(SIZE, box) for box in boxes])


def eroded(by: int = 1) -> torch.Tensor:
    return masks_of([(t + by, b - by, left + by, r - by) for t, b, left, r in BOXES])


def with_one_more() -> dict:
    """An instance of what is not there, in the upper right corner."""
    masks = torch.cat([true_masks(), mask_of(SIZE, (2, 8, 30, 38))[None]])
    return dict(masks=masks, labels=[*LABELS, 1], scores=[0.6, 0.8, 0.7, 0.9])


def without_the_last() -> dict:
    return dict(masks=true_masks()[:2], labels=LABELS[:2], scores=[0.6, 0.8])


WRONG = {
    'order': dict(scores=[0.9, 0.6, 0.7]),
    'semantics': dict(stuff=np.where(np.arange(40) < 30, sections(), THINGS).astype(np.uint8)),
    'boxes': dict(masks=masks_of(map(shifted, BOXES))),
    'masks': dict(masks=eroded(), boxes=xyxy(BOXES)),
    'classes': dict(labels=[1, 1, 0]),
    'extra': with_one_more(),
    'missed': without_the_last(),
}
# What includes another oracle: a mask says where it is, and what is added need not be found.
ALSO = {('boxes', 'masks')}


def quality(evidence: Evidence, *oracles: str, head=HEAD, truth: dict | None = None) -> float:
    truth = truth or annotation()
    found, order = mended(subject_of(evidence, truth, head), oracles)
    panoptic, segments = head.fuse(found) if order is None else head.fuse(found, order=order)
    matches = match_segments(
        truth['gt_panoptic_map'], truth['segments_info'], panoptic.numpy(), segments, head.num_classes
    )
    return 100 * average(accumulate([matches], head.num_classes), CATEGORIES)['pq']


def test_what_is_right_is_perfect():
    assert quality(right()) == 100
    for oracle in ORACLES:
        assert quality(right(), oracle) == 100


@pytest.mark.parametrize('wrong', WRONG)
def test_the_oracle_of_what_is_wrong_alone_makes_it_perfect(wrong):
    evidence = right(**WRONG[wrong])
    assert quality(evidence) < 95
    assert quality(evidence, wrong) == 100
    others = {oracle: quality(evidence, oracle) for oracle in ORACLES if oracle != wrong}
    assert {oracle for oracle, pq in others.items() if pq == 100} == {b for a, b in ALSO if a == wrong}


def test_a_stack_gains_with_each_oracle():
    """Everything is wrong at once; each oracle mends one more of it."""
    masks = masks_of([(t + 3, b + 1, left + 2, r - 1) for t, b, left, r in BOXES[:2]])
    masks = torch.cat([masks, mask_of(SIZE, (2, 8, 30, 38))[None]])
    boxes = [*xyxy(map(shifted, BOXES[:2])), [30, 2, 38, 8]]
    evidence = right(
        masks=masks, boxes=boxes, labels=[0, 0, 1], scores=[0.9, 0.6, 0.95], stuff=WRONG['semantics']['stuff']
    )
    for stack in (list(ORACLES), ['semantics', 'masks', 'order', 'missed', 'extra', 'classes', 'boxes']):
        values = [quality(evidence, *stack[:number]) for number in range(len(stack) + 1)]
        assert values == sorted(values)
        assert values[0] < 40 and values[-1] == 100


def test_oracles_leave_the_evidence_as_it_is():
    for wrong in ('boxes', 'masks', 'classes'):
        evidence = right(**WRONG[wrong])
        subject = subject_of(evidence, annotation(), HEAD)
        instances = evidence.instances, subject.evidence.instances, subject.annotated
        before = [{name: value.clone() for name, value in one.items()} for one in instances]
        mended(subject, ORACLES)
        for one, fields in zip(instances, before, strict=True):
            assert all(torch.equal(one[name], value) for name, value in fields.items())


def test_what_was_predicted_decides_what_an_instance_is():
    """A mask of half the thing is none of it; one that is not confident enough is not there at all."""
    half = masks_of([BOXES[0], BOXES[1], (20, 25, 28, 38)])
    subject = subject_of(right(masks=half), annotation(), HEAD)
    assert subject.match.tolist() == [0, 1, -1]
    subject = subject_of(right(scores=[0.6, 0.4, 0.7]), annotation(), HEAD)
    assert subject.match.tolist() == [0, 2]
    assert quality(right(scores=[0.6, 0.4, 0.7]), 'missed') == 100
    subject = subject_of(right(labels=[1, 1, 1]), annotation(), HEAD)
    assert subject.match.tolist() == [-1, 1, -1] and subject.match_of_any_class.tolist() == [0, 1, 2]


def test_an_instance_of_another_class_is_no_thing_unless_classes_are_mended():
    subject = subject_of(right(labels=[1, 1, 0], masks=eroded(), boxes=xyxy(BOXES)), annotation(), HEAD)
    found, _ = mended(subject, ['masks'])
    areas = [mask.sum() for mask in (eroded()[0], *true_masks()[1:])]
    assert found.instances.masks.flatten(1).sum(1).tolist() == areas
    assert len(mended(subject, ['extra'])[0].instances) == 2
    assert len(mended(subject, ['extra', 'classes'])[0].instances) == 3


def test_a_thing_of_the_class_comes_before_a_more_similar_one_of_another():
    truth, boxes = annotation(), [BOXES[0], (5, 17, 6, 20), BOXES[2]]
    truth['gt_masks'] = BitmapMasks(masks_of(boxes).numpy().astype(np.uint8), *SIZE)
    subject = subject_of(right(masks=masks_of([boxes[1], boxes[1], boxes[2]]), labels=[0, 1, 1]), truth, HEAD)
    assert subject.iou[0, 1] == 1 > subject.iou[0, 0] > 0.8
    assert subject.match_of_any_class.tolist() == [0, 1, 2]


def test_what_cannot_be_seen_is_not_missed():
    truth = annotation()
    truth['segments_info'] = [info for info in truth['segments_info'] if info['id'] != 12]
    truth['gt_panoptic_map'] = np.where(truth['gt_panoptic_map'] == 12, 0, truth['gt_panoptic_map'])
    found, _ = mended(subject_of(right(**without_the_last()), truth, HEAD), ['missed'])
    assert len(found.instances) == 2


def test_of_two_instances_of_a_thing_the_worse_is_extra():
    masks = torch.cat([true_masks(), mask_of(SIZE, (21, 30, 28, 38))[None]])
    evidence = right(masks=masks, labels=[*LABELS, 0], scores=[0.6, 0.8, 0.7, 0.95])
    found, _ = mended(subject_of(evidence, annotation(), HEAD), ['extra'])
    assert found.instances.scores.tolist() == pytest.approx([0.6, 0.8, 0.7])
    assert quality(evidence, 'masks') == 100  # both become the thing; fusion drops the second


def test_nothing_found_and_nothing_there():
    nothing = right(masks=true_masks()[:0], labels=[], scores=[])
    assert quality(nothing, 'missed', 'order') == 100
    for oracle in set(ORACLES) - {'missed', 'semantics'}:
        assert quality(nothing, oracle) == quality(nothing)
    empty = annotation()
    empty['segments_info'] = [info for info in empty['segments_info'] if not info['is_thing']]
    empty['gt_panoptic_map'] = np.where(empty['gt_panoptic_map'] >= 10, 0, empty['gt_panoptic_map'])
    empty['gt_masks'], empty['gt_bboxes_labels'] = BitmapMasks(np.zeros((0, *SIZE), np.uint8), *SIZE), np.zeros(0, int)
    empty['gt_ignore_flags'] = np.zeros(0, bool)
    empty['gt_seg_map'] = np.where(empty['gt_seg_map'] < THINGS, 255, empty['gt_seg_map'])
    assert quality(right(), *ORACLES, truth=empty) == 100


def test_crowds_are_no_things_to_find():
    truth = annotation()
    truth['gt_ignore_flags'][2] = True
    next(info for info in truth['segments_info'] if info['id'] == 12)['iscrowd'] = 1
    assert len(subject_of(right(), truth, HEAD).things.labels) == 2
    assert quality(right(**without_the_last()), 'missed', 'semantics', truth=truth) == 100


def test_logits_of_stuff_and_boxes_that_are_filled():
    """The other kinds of evidence of masks, and the head that gives what is void in boxes to things."""
    evidence = right(**WRONG['masks'])
    logits = torch.nn.functional.one_hot(torch.from_numpy(sections()).long(), THINGS + STUFF).permute(2, 0, 1).float()
    evidence = Evidence(evidence.instances, StuffLogits(logits, 'all'), SIZE, SIZE)
    head = BoxFillFusion(THINGS, STUFF, score_thr=0.5, stuff_area_limit=0, box_fill_thr=0.1)
    assert quality(evidence, head=head) < 95
    # Void around the small masks goes to their boxes; where two of them overlap the mask of one is in the other's box.
    assert 97 < quality(evidence, 'semantics', head=head) < 100
    assert quality(evidence, 'masks', head=head) == 100


class TestStretched:
    def test_a_shift_of_whole_pixels_is_exact(self):
        masks = torch.rand(3, *SIZE, generator=torch.Generator().manual_seed(0)) > 0.5
        boxes = torch.tensor(xyxy(BOXES)).float() + 0.3
        moved = stretched(masks, boxes, boxes + torch.tensor([2.0, 3, 2, 3]))
        assert torch.equal(moved[:, 3:, 2:], masks[:, :-3, :-2])
        assert not moved[:, :3].any() and not moved[:, :, :2].any()

    def test_twice_the_box_is_twice_the_mask(self):
        mask = mask_of((8, 8), (1, 3, 1, 2), (2, 3, 2, 3))[None]
        large = stretched(mask, torch.tensor([[1.0, 1, 3, 3]]), torch.tensor([[2.0, 2, 6, 6]]))
        expected = mask_of((8, 8), (2, 6, 2, 4), (4, 6, 4, 6))[None]
        assert torch.equal(large, expected)

    def test_a_box_without_area_changes_nothing(self):
        mask = mask_of((8, 8), (1, 3, 1, 2))[None]
        flat, box = torch.tensor([[1.0, 1, 1, 3]]), torch.tensor([[0.0, 0, 8, 8]])
        for pair in ((flat, box), (box, flat)):
            assert torch.equal(stretched(mask, *pair), mask)


def test_combinations():
    assert combinations(['a', 'b', 'c']) == [(), ('a',), ('b',), ('c',), ('a', 'b'), ('a', 'b', 'c')]
    assert combinations(['a']) == [(), ('a',)] and combinations([]) == [()]


class TestOfEmbeddings:
    """A map of which each pixel points to its segment, at stride 4; boxes and masks are multiples of it."""

    DIMS = 8
    HEAD = EmbeddingFusion(THINGS, STUFF, score_thr=0.5, stuff_area_limit=0)
    SIZE = (64, 96)
    BOXES = ((8, 24, 8, 32), (32, 56, 40, 72))

    def truth(self) -> dict:
        seg_map = np.full(self.SIZE, THINGS, np.uint8)
        seg_map[:, 48:] = THINGS + 1
        ids = seg_map.astype(np.int32) + 1
        masks = np.stack([mask_of(self.SIZE, box).numpy() for box in self.BOXES])
        for number, mask in enumerate(masks):
            seg_map[mask], ids[mask] = number, 10 + number
        infos = [
            dict(
                id=one,
                label=one - 10 if one >= 10 else one - 1,
                is_thing=one >= 10,
                iscrowd=0,
                area=int((ids == one).sum()),
            )
            for one in np.unique(ids).tolist()
        ]
        return dict(
            gt_ignore_flags=np.zeros(2, bool),
            gt_masks=BitmapMasks(masks.astype(np.uint8), *self.SIZE),
            gt_bboxes_labels=np.array([0, 1]),
            gt_panoptic_map=ids,
            gt_seg_map=seg_map,
            segments_info=infos,
            img_path='scene.png',
        )

    def evidence(self, semantic: bool = False, **changes) -> Evidence:
        """Axis k is what segment k points to: two stuff classes, then two things."""
        seg_map = torch.from_numpy(self.truth()['gt_seg_map']).long()
        axes = torch.where(seg_map < THINGS, seg_map + STUFF, seg_map - THINGS)[2::4, 2::4]
        embedding = torch.nn.functional.one_hot(axes, self.DIMS).permute(2, 0, 1).float()
        eye = torch.eye(self.DIMS)
        parts = dict(stuff_queries=eye[:2], embeddings=eye[2:4], boxes=xyxy(self.BOXES), labels=[0, 1]) | changes
        branch = None
        if semantic:
            branch = torch.zeros(STUFF + 1, *axes.shape)  # says the first class everywhere
            branch[0] = 1
        instances = InstanceData(
            bboxes=torch.tensor(parts['boxes']).float(),
            labels=torch.tensor(parts['labels']),
            scores=torch.tensor([0.8, 0.7]),
            embeddings=parts['embeddings'],
        )
        return evidence_of(instances, EmbeddingMap(embedding, parts['stuff_queries'], 4, branch), self.SIZE, self.SIZE)

    def quality(self, evidence: Evidence, *oracles: str) -> float:
        return quality(evidence, *oracles, head=self.HEAD, truth=self.truth())

    WRONG = {
        'semantics': dict(stuff_queries=torch.eye(8)[[0, 6]]),
        'boxes': dict(boxes=[[14, 8, 32, 24], [40, 32, 64, 56]]),
        'masks': dict(embeddings=torch.eye(8)[[2, 7]]),
        'classes': dict(labels=[1, 1]),
    }

    @pytest.mark.parametrize('wrong', WRONG)
    def test_what_is_wrong_is_mended(self, wrong):
        """As far as a map at stride 4 goes."""
        most = self.quality(self.evidence())
        evidence = self.evidence(**self.WRONG[wrong])
        assert most > 90
        assert self.quality(evidence) < most - 3
        assert self.quality(evidence, wrong) == pytest.approx(most, abs=1.5)
        assert self.quality(evidence, *set(self.WRONG) - {wrong}) < most - 3

    def test_missed_and_extra(self):
        most, evidence = self.quality(self.evidence()), self.evidence(boxes=[[8, 8, 32, 24], [0, 40, 20, 60]])
        stacked = [self.quality(evidence, *oracles) for oracles in ([], ['missed'], ['extra', 'missed'])]
        assert stacked == sorted(stacked) and stacked[0] < most - 3
        assert stacked[-1] == pytest.approx(most, abs=1.5)

    def test_a_semantic_branch_says_what_is_there(self):
        evidence = self.evidence(semantic=True)
        assert self.quality(evidence) < 40
        assert self.quality(evidence, 'semantics') > 90

    def test_a_semantic_branch_is_read_at_the_centres_of_its_cells(self):
        """Of a map that is wider and lower than the input."""
        labels = torch.arange(8)[:, None] // 3 % 2 + torch.arange(48) // 20 % 2  # 0 to 2, which is none
        stuff = EmbeddingMap(torch.rand(self.DIMS, 4, 6), torch.eye(self.DIMS)[:2], 4, torch.rand(STUFF + 1, 4, 6))
        evidence = Evidence(InstanceData(), stuff, (16, 24), (8, 48))
        found = fitting_map(evidence, labels, STUFF).semantic
        assert torch.equal(found.argmax(0), labels[1::2, 4::8]) and torch.equal(found.sum(0), torch.ones(4, 6))

    def test_a_class_that_is_not_there_does_not_win(self):
        truth = self.truth()
        truth['gt_seg_map'][truth['gt_seg_map'] == THINGS + 1] = THINGS
        subject = subject_of(self.evidence(), truth, self.HEAD)
        found, _ = mended(subject, ['semantics'])
        assert not found.stuff.stuff_queries[1].any() and found.stuff.stuff_queries[0].norm() == pytest.approx(1)

    def test_an_order_is_refused(self):
        oracles, notes = choose(self.HEAD, None)
        assert oracles == [name for name in ORACLES if name != 'order']
        assert len(notes) == 1 and 'order is left out: EmbeddingFusion gives every pixel' in notes[0]
        with pytest.raises(UserError, match=r'order: EmbeddingFusion gives every pixel.* leave it out'):
            choose(self.HEAD, ['masks', 'order'])


def test_oracles_are_chosen_by_name():
    assert choose(HEAD, None) == (list(ORACLES), [])
    assert choose(HEAD, ['masks', 'order']) == (['masks', 'order'], [])
    with pytest.raises(UserError, match=r"no oracle 'mask': choose from order, semantics"):
        choose(HEAD, ['mask'])
    with pytest.raises(UserError, match='masks is named twice'):
        choose(HEAD, ['masks', 'order', 'masks'])
