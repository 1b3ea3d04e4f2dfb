"""Ids of things, and the list that goes along with a panoptic map."""

from mmpanoptic.models.fusion.segments import list_segments, thing_id


def test_things_in_their_order_and_then_stuff():
    assert list_segments([2, 0], labels=[5, 6, 7], scores=[0.5, 0.75, 0.25], stuff_labels=[80, 132]) == [
        dict(id=thing_id(7, 1), label=7, score=0.25, instance=2),
        dict(id=thing_id(5, 2), label=5, score=0.5, instance=0),
        dict(id=80, label=80, score=None, instance=None),
        dict(id=132, label=132, score=None, instance=None),
    ]
    assert list_segments([], [], [], []) == []


def test_ids_hold_label_and_number():
    assert [thing_id(79, k) % 1000 for k in (1, 2, 999)] == [79] * 3
    assert [thing_id(79, k) // 1000 for k in (1, 2, 999)] == [1, 2, 999]
