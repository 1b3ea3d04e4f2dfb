"""How sure a model is of stuff, by the plain formula on small maps, and of the same on a GPU that is none."""

import numpy as np
import pytest
import torch
from helpers.drawn import drawn_embedding, on_gpu
from helpers.evidence import evidence_of
from helpers.second_device import SecondDevice, from_gpu, to_gpu
from mmengine.structures import InstanceData

from mmpanoptic.models import EmbeddingFusion, HeuristicFusion
from mmpanoptic.models.fusion.confidence import nearest, sample_pixels
from mmpanoptic.structures import EmbeddingMap, Evidence, StuffLabels, StuffLogits

T, S = 2, 3


def no_instances(size: tuple[int, int], **more) -> InstanceData:
    empty = dict(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long), scores=torch.zeros(0))
    return InstanceData(masks=torch.zeros(0, *size, dtype=torch.bool), **empty, **more)


def predicted(head, evidence) -> tuple[np.ndarray, list[dict]]:
    """Map and segments; those of the GPU are the same but for rounding."""
    (found,) = head.predict([evidence])
    with SecondDevice():
        (there,) = head.predict([on_gpu(evidence)])
    assert (from_gpu(there.sem_seg) == found.sem_seg).all()
    for one, other in zip(found.segments_info, there.segments_info, strict=True):
        assert one == pytest.approx(other, abs=1e-6)
    return found.sem_seg[0].numpy(), found.segments_info


@pytest.mark.parametrize('channels', ['stuff', 'stuff+other', 'all'])
def test_mean_softmax_of_stuff(channels: str):
    """Over all classes that the logits tell apart, things or 'other' among them."""
    first, number = {'stuff': (0, S), 'stuff+other': (0, S + 1), 'all': (T, T + S)}[channels]
    logits = torch.randn(number, 21, 30, generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(1, 21, 30, dtype=torch.bool)
    masks[0, 3:9, 4:20] = True
    values = dict(labels=torch.zeros(1, dtype=torch.long), scores=torch.tensor([0.75]))
    instances = InstanceData(masks=masks, bboxes=torch.tensor([[4.0, 3, 20, 9]]), **values)
    head = HeuristicFusion(T, S, stuff_area_limit=0)
    panoptic, segments = predicted(head, evidence_of(instances, StuffLogits(logits, channels)))
    assert segments[0]['score'] == 0.75 and len(segments) == 1 + S
    softmax = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(0)
    for segment in segments[1:]:
        own = panoptic == segment['id']
        expected = softmax[segment['label'] - T + first][own].mean()
        assert segment['score'] == pytest.approx(expected, abs=1e-6) and 0 < expected < 1


def test_labels_have_a_score_if_their_logits_are_there():
    logits = torch.randn(S + 1, 12, 16, generator=torch.Generator().manual_seed(1))
    labels = logits.argmax(0).repeat_interleave(2, 0).repeat_interleave(2, 1)
    instances, head = no_instances((24, 32)), HeuristicFusion(T, S, stuff_area_limit=0)
    panoptic, segments = predicted(head, evidence_of(instances, StuffLabels(labels, logits)))
    softmax = logits.softmax(0).numpy().repeat(2, 1).repeat(2, 2)
    for segment in segments:
        expected = softmax[segment['label'] - T][panoptic == segment['id']].mean()
        assert segment['score'] == pytest.approx(expected, abs=1e-6)
    bare, unknown = predicted(head, evidence_of(instances, StuffLabels(labels)))
    np.testing.assert_array_equal(bare, panoptic)
    assert [segment['score'] for segment in unknown] == [None] * S


@pytest.mark.parametrize('on_gpu', [False, True])
def test_pixels_that_stand_for_a_segment(on_gpu: bool):
    rng = np.random.default_rng(0)
    panoptic = torch.from_numpy(
        np.array([4, 1005, 7, 13], np.int32)[rng.choice(4, (60, 50), p=(0.9, 0.05, 0.03, 0.02))]
    )
    panoptic[0, :3] = torch.tensor([8, 8, 8])
    ids = torch.tensor([1005, 4, 8, 99], dtype=torch.int32)
    with SecondDevice():
        index, counted = sample_pixels(*((to_gpu(panoptic), to_gpu(ids)) if on_gpu else (panoptic, ids)), samples=200)
    index, counted = (from_gpu(index), from_gpu(counted)) if on_gpu else (index, counted)
    flat = panoptic.flatten()
    for value, row, which in zip(ids.tolist(), index, counted, strict=True):
        places, own = row[which], (flat == value).nonzero().flatten()
        assert (flat[places] == value).all() and len(places.unique()) == len(places) == min(200, len(own))
        if len(own) > 200:  # every (n / 200)-th of them
            assert torch.equal(places, own[torch.arange(200) * len(own) // 200])
    assert torch.equal(nearest(torch.tensor([0, 3, 4, 23]), (6, 4), (3, 2)), torch.tensor([0, 1, 0, 5]))


def test_a_large_segment_is_estimated_closely():
    """Logits that vary as maps of a network do: over some pixels."""
    coarse = torch.randn(1, S, 40, 60, generator=torch.Generator().manual_seed(2))
    logits = torch.nn.functional.interpolate(2 * coarse, scale_factor=8, mode='bilinear')[0]
    panoptic, segments = predicted(
        HeuristicFusion(T, S), evidence_of(no_instances((320, 480)), StuffLogits(logits, 'stuff'))
    )
    softmax = logits.softmax(0).numpy()
    for segment in segments:
        expected = softmax[segment['label'] - T][panoptic == segment['id']].mean()
        assert segment['score'] == pytest.approx(expected, abs=0.015)


@pytest.mark.parametrize('semantic', [False, True])
def test_similarity_of_embeddings(semantic: bool):
    """A map with a centre for each pixel: interpolation gives the centres themselves."""
    draw = torch.Generator().manual_seed(3)
    unit = torch.nn.functional.normalize
    maps = EmbeddingMap(
        embedding=torch.randn(5, 14, 18, generator=draw),
        stuff_queries=unit(torch.randn(S, 5, generator=draw), dim=1),
        stride=1,
        semantic=torch.randn(S + 1, 14, 18, generator=draw) if semantic else None,
    )
    instances = InstanceData(
        bboxes=torch.tensor([[2.0, 2, 12, 11], [0, 0, 0, 0], [9, 1, 18, 14]]),
        labels=torch.tensor([1, 0, 0]),
        scores=torch.tensor([0.5, 0.9, 0.75]),
        embeddings=unit(torch.randn(3, 5, generator=draw), dim=1),
    )
    evidence = Evidence(instances, maps, (14, 18), (14, 18))
    panoptic, segments = predicted(EmbeddingFusion(T, S, stuff_area_limit=0), evidence)
    unit_map = unit(maps.embedding, dim=0).numpy()
    assert {segment['instance'] for segment in segments} == {0, 2, None}
    for segment in segments:
        own = unit_map[:, panoptic == segment['id']]
        if segment['instance'] is not None:
            expected = (instances.embeddings[segment['instance']].numpy() @ own).mean()
            assert segment['similarity'] == pytest.approx(expected, abs=1e-6)
            assert segment['score'] == instances.scores[segment['instance']].item()
        elif semantic:
            probability = maps.semantic.softmax(0).numpy()[segment['label'] - T][panoptic == segment['id']].mean()
            assert segment['score'] == pytest.approx(probability, abs=1e-6) and 'similarity' not in segment
        else:
            expected = (maps.stuff_queries[segment['label'] - T].numpy() @ own).mean()
            assert segment['similarity'] == pytest.approx(expected, abs=1e-6)
            assert segment['score'] == max(segment['similarity'], 0)


@pytest.mark.parametrize('number', [0, 7])
def test_nothing_to_rate(number: int):
    for limit in (0, 10**6):
        evidence = drawn_embedding(0, number, (4, 3))
        (found,) = EmbeddingFusion(3, 4, score_thr=2.0, stuff_area_limit=limit).predict([evidence])
        assert all(0 <= segment['score'] <= 1 for segment in found.segments_info)
        assert bool(found.segments_info) == (limit == 0)
