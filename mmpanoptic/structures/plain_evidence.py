"""Evidence as plain values and tensors, for a file of predictions, and back."""

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from .evidence import EmbeddingMap, Evidence, StuffLabels

_OF_MAP = ('embedding', 'stuff_queries', 'stride', 'semantic')


def to_plain(evidence: Evidence, labels: Tensor | None) -> dict[str, Any]:
    """What evidence holds besides its instances.

    Args:
        evidence: The evidence.
        labels: Of logits or labels, the stuff class of each pixel, integers of shape (H, W): all that fusion takes from
            them. None of an :class:`~.evidence.EmbeddingMap`.
    """
    if labels is None:
        kept = {name: getattr(evidence.stuff, name) for name in _OF_MAP}
    else:
        kept = dict(labels=labels.to(torch.uint8 if int(labels.max()) < 256 else torch.int16))
    return dict(kept, input_size=tuple(evidence.input_size), output_size=tuple(evidence.output_size))


def from_plain(plain: Mapping[str, Any], instances: InstanceData) -> Evidence:
    """The evidence that :func:`to_plain` was given, or one that fuses alike."""
    if 'labels' in plain:
        stuff = StuffLabels(plain['labels'])
    else:
        stuff = EmbeddingMap(**{name: plain[name] for name in _OF_MAP})
    return Evidence(instances, stuff, tuple(plain['input_size']), tuple(plain['output_size']))
