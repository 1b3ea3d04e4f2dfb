"""Orders of instances, against ones worked out by hand."""

import itertools

import pytest
import torch

from mmpanoptic.analysis import instance_orders


def strips(*ranges, width=12):
    masks = torch.zeros(len(ranges), 1, width, dtype=torch.bool)
    for mask, (start, stop) in zip(masks, ranges, strict=True):
        mask[:, start:stop] = True
    return masks


def test_best_match_is_of_the_same_class():
    masks, others = strips((0, 4), (6, 8)), strips((0, 4), (1, 4), (9, 12))
    labels, other_labels = torch.tensor([1, 1]), torch.tensor([0, 1, 1])
    assert instance_orders.best_match(masks, labels, others, other_labels).tolist() == [1, -1]
    assert instance_orders.best_match(masks, labels, others, other_labels, least=0.75).tolist() == [-1, -1]
    assert instance_orders.best_match(masks, labels, others[:0], other_labels[:0]).tolist() == [-1, -1]
    assert instance_orders.best_match(masks[:0], labels[:0], others, other_labels).tolist() == []


def test_best_match_may_be_given_once():
    """What is hidden behind another of its class is not taken to be seen there."""
    masks, others = strips((0, 6), (2, 6), (8, 12)), strips((0, 6), (8, 10))
    labels, other_labels = torch.tensor([0, 0, 0]), torch.tensor([0, 0])
    assert instance_orders.best_match(masks, labels, others, other_labels).tolist() == [0, 0, 1]
    assert instance_orders.best_match(masks, labels, others, other_labels, once=True).tolist() == [0, -1, 1]


def test_votes_and_wins():
    """0 and 1 overlap in 3 pixels, of which 2 show 1; 2 overlaps 1 in a pixel that shows neither."""
    masks = strips((0, 6), (3, 9), (8, 12))
    shown = strips((0, 4), (4, 8), (9, 12))
    votes = instance_orders.front_votes(masks, shown)
    assert votes[0, 1] == 1 and votes[1, 0] == 2
    assert votes[1, 2] == votes[2, 1] == 0
    wins = instance_orders.class_wins(votes, torch.tensor([0, 2, 2]), 3)
    assert wins.tolist() == [[0, 0, 0], [0, 0, 0], [1, 0, 0]]
    assert not instance_orders.class_wins(votes, torch.tensor([1, 1, 0]), 3).any()  # two of one class are no pair


@pytest.mark.parametrize('seed', range(5))
def test_order_of_classes_contradicts_no_pair_if_it_can(seed):
    generator = torch.Generator().manual_seed(seed)
    wins = torch.randint(0, 9, (5, 5), generator=generator)
    hidden = torch.randperm(5, generator=generator)
    consistent = torch.zeros_like(wins)
    for front, back in itertools.combinations(hidden.tolist(), 2):
        consistent[front, back] = 1 + wins[front, back]
    assert instance_orders.best_class_order(consistent) == hidden.tolist()


def kept(order, wins):
    return sum(int(wins[a, b]) for a, b in itertools.combinations(order, 2))


@pytest.mark.parametrize('seed', [*range(10), 18, 33, 61, 62, 78])
def test_order_of_few_classes_contradicts_the_fewest_pairs(seed):
    """On the last five of these tables, moving one class at a time gets stuck."""
    wins = torch.randint(0, 9, (6, 6), generator=torch.Generator().manual_seed(seed))
    order = instance_orders.best_class_order(wins)
    assert sorted(order) == list(range(6))
    assert kept(order, wins) == max(kept(one, wins) for one in itertools.permutations(range(6)))


def test_order_of_as_many_classes_as_are_exact():
    """Blocks of three in a circle, each block in front of those before it: 2 of 3 pairs can be kept in a block."""
    number = instance_orders.EXACT_CLASSES
    wins = torch.ones(number, number, dtype=torch.int64).tril(-1)
    for a in range(0, number, 3):
        wins[a : a + 3, a : a + 3] = torch.tensor([[0, 5, 0], [0, 0, 6], [4, 0, 0]])
    order = instance_orders.best_class_order(wins)
    assert order == [label for a in reversed(range(0, number, 3)) for label in (a, a + 1, a + 2)]


def test_without_pairs_the_order_is_that_of_the_labels():
    for number in (0, 1, 4, instance_orders.EXACT_CLASSES + 1):
        assert instance_orders.best_class_order(torch.zeros(number, number, dtype=torch.int64)) == list(range(number))


def test_order_of_many_classes_cannot_be_bettered_by_moving_one():
    number = instance_orders.EXACT_CLASSES + 1
    wins = torch.randint(0, 9, (number, number), generator=torch.Generator().manual_seed(0))
    order = instance_orders.best_class_order(wins)
    assert sorted(order) == list(range(number))
    for label, place in itertools.product(order, range(number)):
        moved = [other for other in order if other != label]
        moved.insert(place, label)
        assert kept(moved, wins) <= kept(order, wins)


def test_class_votes_are_for_overlapping_instances_of_classes_that_met():
    masks, labels = strips((0, 6), (4, 9), (8, 12)), torch.tensor([0, 1, 2])
    wins = torch.zeros(3, 3, dtype=torch.int64)
    wins[1, 0] = wins[0, 2] = 1
    votes = instance_orders.class_votes(masks, labels, [1, 0, 2], wins)
    assert votes.tolist() == [[0, 0, 0], [1, 0, 0], [0, 0, 0]]


def test_order_by_votes():
    votes, scores = torch.zeros(4, 4), torch.tensor([0.9, 0.8, 0.7, 0.6])
    assert instance_orders.order_by_votes(votes, scores, [0, 1, 3]) == [0, 1, 3]
    votes[3, 0], votes[0, 3], votes[2, 1] = 5, 2, 1
    assert instance_orders.order_by_votes(votes, scores, [0, 1, 2, 3]) == [2, 1, 3, 0]
    assert instance_orders.order_by_votes(votes, scores, [0, 1, 2]) == [0, 2, 1]
    votes[0, 3], votes[3, 0], votes[1, 2] = 0, 1, 0
    votes[0, 3] = 1  # a tie binds nothing
    assert instance_orders.order_by_votes(votes, scores, [0, 3]) == [0, 3]
    circle = torch.zeros(3, 3)
    circle[0, 1] = circle[1, 2] = circle[2, 0] = 1
    assert instance_orders.order_by_votes(circle, scores[:3], [0, 1, 2]) == [0, 1, 2]


def test_pixels_that_an_order_gives_to_the_right_instance():
    """0 and 1 have one class and overlap in 3 pixels, of which 2 show 1; the third one shows 2, which is in front."""
    masks = strips((0, 6), (3, 9), (5, 12), (12, 14), width=14)
    shown = strips((0, 3), (3, 5), (5, 12), (12, 14), width=14)
    votes = instance_orders.true_votes(masks, torch.arange(4), shown)

    def given(order):
        return instance_orders.shown_by_class(order, votes, torch.tensor([0, 0, 1, 1]), 2).tolist()

    everything = [[2, 0], [5, 0]]  # 2 has one pixel in common with 0 and four with 1
    assert given([2, 1, 0, 3]) == [everything, everything]
    assert given([3, 0, 1, 2]) == [[[0, 0], [0, 0]], everything]
    assert given([0, 2, 3, 1]) == [[[0, 0], [4, 0]], everything]
    assert given([1, 0]) == [[[2, 0], [0, 0]], [[2, 0], [0, 0]]]  # the third one is not pasted
    assert given([]) == [[[0, 0], [0, 0]], [[0, 0], [0, 0]]]


def test_what_matches_nothing_has_no_votes():
    masks, shown = strips((0, 6), (3, 9)), strips((0, 3), (3, 9))
    votes = instance_orders.true_votes(masks, torch.tensor([-1, 1]), shown)
    assert votes.tolist() == [[0, 0], [3, 6]]
    assert not instance_orders.true_votes(masks, torch.tensor([-1, -1]), shown).any()
