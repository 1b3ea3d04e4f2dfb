"""Evidence: what is known about stuff says what it is, and sizes."""

import pytest
import torch
from helpers.evidence import evidence_of, no_instances
from mmengine.structures import InstanceData

from mmpanoptic.structures import EmbeddingMap, Evidence, StuffLabels, StuffLogits

T, S = 3, 2


def test_channels_among_which_stuff_is_decided():
    logits = torch.rand(T + S, 4, 5)
    assert torch.equal(StuffLogits(logits, 'all').of_stuff(T, S), logits[T:])
    assert torch.equal(StuffLogits(logits[:S], 'stuff').of_stuff(T, S), logits[:S])
    assert torch.equal(StuffLogits(logits[: S + 1], 'stuff+other').of_stuff(T, S), logits[: S + 1])


@pytest.mark.parametrize(('channels', 'wanted'), [('stuff', S), ('stuff+other', S + 1), ('all', T + S)])
def test_logits_of_other_channels_than_they_say_are_refused(channels, wanted):
    for number in {1, S, S + 1, 4, T + S, 9} - {wanted}:
        message = (
            rf"have {number} channels: with 3 thing and 2 stuff classes, '{channels.replace('+', '.')}' means {wanted}"
        )
        with pytest.raises(ValueError, match=message):
            StuffLogits(torch.zeros(number, 2, 2), channels).of_stuff(T, S)


def test_with_one_thing_class_all_and_other_are_told_apart():
    """They have as many channels; the first one is the thing's, or the last one 'other's."""
    logits = torch.tensor([9.0, 1, 2])[:, None, None]
    assert StuffLogits(logits, 'all').of_stuff(1, 2).flatten().tolist() == [1, 2]
    assert StuffLogits(logits, 'stuff+other').of_stuff(1, 2).flatten().tolist() == [9, 1, 2]


def test_logits_and_labels_are_checked():
    with pytest.raises(ValueError, match=r"channels 'things' is none of stuff, stuff\+other, all"):
        StuffLogits(torch.zeros(2, 3, 3), 'things')
    with pytest.raises(ValueError, match=r'must be of shape \(C, H, W\), not \(1, 2, 3, 3\)'):
        StuffLogits(torch.zeros(1, 2, 3, 3), 'stuff')
    with pytest.raises(ValueError, match=r'integers of shape \(H, W\), not torch\.float32 of shape \(3, 3\)'):
        StuffLabels(torch.zeros(3, 3))
    with pytest.raises(ValueError, match=r'integers of shape \(H, W\), not torch\.int64 of shape \(1, 3, 3\)'):
        StuffLabels(torch.zeros(1, 3, 3, dtype=torch.long))


@pytest.mark.parametrize('stuff', [torch.zeros(2, 4, 5), torch.zeros(4, 5, dtype=torch.long), None])
def test_what_does_not_say_what_it_is_is_refused(stuff):
    with pytest.raises(
        TypeError, match=f'stuff is a {type(stuff).__name__}: the semantic head has to give StuffLogits'
    ):
        Evidence(no_instances((4, 5)), stuff, (4, 5), (4, 5))


def test_scale_is_across_and_down():
    stuff = EmbeddingMap(torch.zeros(2, 3, 3), torch.zeros(1, 2))
    evidence = evidence_of(InstanceData(), stuff, input_size=(30, 80), output_size=(60, 40))
    assert evidence.scale == (2.0, 0.5)
    assert evidence.device == torch.device('cpu')
