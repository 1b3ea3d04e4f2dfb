"""Evidence as plain values and tensors, for a file of predictions, and back."""

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from .evidence import EmbeddingMap, Evidence, Stuff, StuffLabels

_OF_MAP = ('embedding', 'stuff_queries', 'stride', 'semantic')


def to_plain(evidence: Evidence, labels: Tensor | None) -> dict[str, Any]:
    """Evidence without its instances, as plain values.

    Args:
        evidence: The evidence.
        labels: Stuff class of each pixel, integers of shape (H, W), which is all that fusion needs of logits or labels.
            None if the stuff is an :class:`~.evidence.EmbeddingMap`.
    """
    if labels is None:
        kept = {name: getattr(evidence.stuff, name) for name in _OF_MAP}
    else:
        kept = dict(labels=labels.to(torch.uint8 if int(labels.max()) < 256 else torch.int16))
    return dict(kept, input_size=tuple(evidence.input_size), output_size=tuple(evidence.output_size))


def from_plain(plain: Mapping[str, Any], instances: InstanceData) -> Evidence:
    """Evidence that fuses to the same map as the evidence that :func:`to_plain` was given."""
    stuff: Stuff
    if 'labels' in plain:
        stuff = StuffLabels(plain['labels'])
    else:
        stuff = EmbeddingMap(**{name: plain[name] for name in _OF_MAP})
    return Evidence(instances, stuff, tuple(plain['input_size']), tuple(plain['output_size']))
