"""What all fusion heads have in common."""

import pytest
import torch
from helpers.evidence import evidence_of, no_instances
from mmengine.structures import InstanceData

from mmpanoptic.models import BoxFillFusion, EmbeddingFusion, HeuristicFusion, RankingFusion
from mmpanoptic.structures import EmbeddingMap, StuffLabels, StuffLogits
from mmpanoptic.utils import UserError

STUFF = (
    StuffLogits(torch.zeros(2, 8, 12), 'stuff'),
    StuffLabels(torch.zeros(8, 12, dtype=torch.long)),
    EmbeddingMap(torch.ones(4, 2, 3), torch.eye(2, 4)),
)


@pytest.mark.parametrize('stuff', STUFF, ids=lambda stuff: type(stuff).__name__)
@pytest.mark.parametrize('head_type', [HeuristicFusion, BoxFillFusion, RankingFusion, EmbeddingFusion])
def test_a_head_takes_its_kinds_of_stuff_and_refuses_others(head_type, stuff):
    head = head_type(3, 2, stuff_area_limit=0)
    is_embedding = isinstance(stuff, EmbeddingMap)
    evidence = evidence_of(InstanceData() if is_embedding else no_instances((8, 12)), stuff)
    if is_embedding == (head_type is EmbeddingFusion):
        (panoptic,) = head.predict([evidence])
        assert panoptic.sem_seg.unique().tolist() == [3]
    else:
        message = f'^{head_type.__name__} takes .*, and the detector gives {type(stuff).__name__}: '
        with pytest.raises(UserError, match=message):
            head.predict([evidence])
