"""Base of all fusion heads."""

from abc import abstractmethod
from typing import Any

from mmdet.models.seg_heads.panoptic_fusion_heads import BasePanopticFusionHead
from mmengine.structures import PixelData
from torch import Tensor

from mmpanoptic.structures import INSTANCE_OFFSET, EmbeddingMap, Evidence, StuffLabels, StuffLogits
from mmpanoptic.structures.plain_evidence import to_plain
from mmpanoptic.utils import UserError

from .confidence import stuff_probabilities
from .stuff import stuff_labels
from .transfer import fetch


class BaseFusionHead(BasePanopticFusionHead):
    """Turn evidence into a panoptic map, image by image.

    A subclass takes its thresholds as arguments, lists in ``takes`` the kinds of stuff that it can fuse, and implements
    ``fuse``.

    Args:
        num_things_classes: Number of thing classes, labels 0 to T - 1.
        num_stuff_classes: Number of stuff classes, labels T to T + S - 1.
        init_cfg: As in mmengine's BaseModule.

    Raises:
        ValueError: If there is no thing class and the head needs one, or there are too many classes for labels and
            instance numbers to fit in one id.
    """

    takes: tuple[type, ...] = (StuffLogits, StuffLabels)
    #: Whether the head needs at least one thing class.
    needs_things = True
    #: Whether a map keeps its evidence as metainfo ``evidence``, see :mod:`mmpanoptic.structures.plain_evidence`.
    keep_evidence = False

    def __init__(self, num_things_classes: int, num_stuff_classes: int, init_cfg: dict | None = None) -> None:
        if num_things_classes < self.needs_things:
            raise ValueError(
                f'no class is a thing, and {type(self).__name__} is for things: mark classes as things (isthing 1 in '
                'the JSON), or train stuff alone by Panoptic FPN (HeuristicFusion)'
            )
        super().__init__(num_things_classes, num_stuff_classes, init_cfg=init_cfg)
        if self.num_classes >= INSTANCE_OFFSET:
            raise ValueError(f'{self.num_classes} classes: a panoptic map has room for {INSTANCE_OFFSET - 1}')

    def loss(self, *args: Any, **kwargs: Any) -> dict:
        """No losses, unless a subclass learns something."""
        return {}

    def predict(self, evidence: list[Evidence]) -> list[PixelData]:
        """Panoptic map of each image.

        Args:
            evidence: What was found in each image.

        Returns:
            For each image ``sem_seg``, int32 of shape (1, H, W) on the device of the evidence. Its values are ``label +
            INSTANCE_OFFSET * k`` for the k-th thing (k = 1, 2, ...), the label for stuff, ``num_classes`` for void. Its
            metainfo ``segments_info`` lists the map's segments as dicts with ``id``, ``label``, ``score``,
            ``instance`` (index into the given instances, None for stuff) and the entries that ``with_confidence`` adds.

        Raises:
            UserError: If the evidence is of a kind that this head cannot fuse.
        """
        results = []
        for found in evidence:
            self.require_taken(found)
            panoptic, segments_info = self.fuse(found)
            panoptic = panoptic.to(found.device)
            segments_info = self.with_confidence(found, panoptic, segments_info)
            sem_seg = panoptic[None]
            metainfo: dict[str, Any] = {'segments_info': segments_info}
            if self.keep_evidence:
                counts = self.num_things_classes, self.num_stuff_classes
                labels = None if isinstance(found.stuff, EmbeddingMap) else stuff_labels(found.stuff, *counts)
                metainfo['evidence'] = to_plain(found, labels)
            results.append(PixelData(sem_seg=sem_seg, metainfo=metainfo))
        return results

    def require_taken(self, evidence: Evidence) -> None:
        """Refuse evidence of a kind that this head cannot fuse.

        Raises:
            UserError: Naming this kind and the kinds that the head takes.
        """
        if not isinstance(evidence.stuff, self.takes):
            raise UserError(
                f'{type(self).__name__} takes {" or ".join(kind.__name__ for kind in self.takes)}, and the '
                f'detector gives {type(evidence.stuff).__name__}: choose a fusion head that goes with its heads'
            )

    @abstractmethod
    def fuse(self, evidence: Evidence) -> tuple[Tensor, list[dict]]:
        """Panoptic map of one image, int32 of shape (H, W), and its ``segments_info``; no argument is modified.

        The ``score`` of stuff is None here.
        """

    def with_confidence(self, evidence: Evidence, panoptic: Tensor, segments_info: list[dict]) -> list[dict]:
        """Add the confidence of stuff, its mean softmax, to the segments of a map; see :mod:`~.confidence`.

        Args:
            evidence: What the map was made from.
            panoptic: The map, of shape (H, W), on the device of the evidence.
            segments_info: Segments as ``fuse`` returned them.

        Returns:
            New dicts. The ``score`` of stuff is a number, or still None if the evidence holds labels without logits.
        """
        stuff = [segment['label'] for segment in segments_info if segment['instance'] is None]
        found = stuff_probabilities(evidence.stuff, panoptic, stuff, self.num_things_classes) if stuff else None
        if found is None:
            return segments_info
        scores = iter(fetch(found)[0].tolist())
        return [s | dict(score=next(scores)) if s['instance'] is None else s for s in segments_info]
