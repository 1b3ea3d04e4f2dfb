"""Fusion by detection score."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mmpanoptic.models.fusion.base import BaseFusionHead
from mmpanoptic.models.fusion.segments import list_segments
from mmpanoptic.models.fusion.stuff import STUFF_AREA_MODES, paste_stuff, stuff_labels
from mmpanoptic.registry import MODELS
from mmpanoptic.structures import Evidence

from .instances import order_instances, paste_instances


@MODELS.register_module()
class HeuristicFusion(BaseFusionHead):
    """Paste instances in the order of their scores, then stuff on what they leave.

    Source: Kirillov et al., Panoptic Segmentation, section 7, https://arxiv.org/abs/1801.00868. Defaults are those of
    the official script,
    https://github.com/cocodataset/panopticapi/blob/master/combine_semantic_and_instance_predictions.py

    Args:
        num_things_classes: Number of thing classes, labels 0 to T - 1.
        num_stuff_classes: Number of stuff classes, labels T to T + S - 1.
        score_thr: Instances with a lower score are left out.
        overlap_thr: An instance of which a larger part is covered by instances before it is left out.
        stuff_area_limit: Stuff that would get fewer pixels than this stays void.
        stuff_area_mode: What the limit applies to: 'segment', all pixels of a class in the image, or 'component', each
            8-connected component of them.
        init_cfg: As in mmengine's BaseModule.

    Raises:
        ValueError: If ``stuff_area_mode`` is neither of the two.
    """

    def __init__(
        self,
        num_things_classes: int = 80,
        num_stuff_classes: int = 53,
        score_thr: float = 0.5,
        overlap_thr: float = 0.5,
        stuff_area_limit: float = 4096,
        stuff_area_mode: str = 'segment',
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(num_things_classes, num_stuff_classes, init_cfg=init_cfg)
        self.score_thr = score_thr
        self.overlap_thr = overlap_thr
        self.stuff_area_limit = stuff_area_limit
        self.stuff_area_mode = stuff_area_mode
        if stuff_area_mode not in STUFF_AREA_MODES:
            raise ValueError(f'stuff_area_mode {stuff_area_mode!r} is none of {", ".join(STUFF_AREA_MODES)}')

    def order(self, evidence: Evidence) -> list[int]:
        """Indices of the instances to paste, the first one on top; those below ``score_thr`` are not in it."""
        return order_instances(evidence.instances.scores, self.score_thr)

    def fuse(self, evidence: Evidence, order: Sequence[int] | None = None) -> tuple[Tensor, list[dict]]:
        """Fuse one image.

        Args:
            evidence: Instances with ``masks``, and logits or labels of stuff.
            order: Indices of the instances to paste, the first one on top; None: what the method ``order`` gives.

        Returns:
            Panoptic map, int32 of shape (H, W) on the CPU, and its ``segments_info``.

        Raises:
            ValueError: If masks and logits differ in size, or the logits' channels are not what they say.
        """
        semantic = stuff_labels(evidence.stuff, self.num_things_classes, self.num_stuff_classes)
        instances = evidence.instances
        if len(instances):
            masks, labels, scores = instances.masks, instances.labels.tolist(), instances.scores.tolist()
            order = self.order(evidence) if order is None else order
        else:
            masks, labels, scores, order = semantic.new_zeros((0, *semantic.shape), dtype=torch.bool), [], [], []
        if masks.shape[1:] != semantic.shape:
            raise ValueError(
                f'masks are of size {tuple(masks.shape[1:])}, semantic logits of size {tuple(semantic.shape)} (height, '
                'width): both must be of the size of the original image'
            )
        panoptic, pasted = paste_instances(masks, labels, order, self.overlap_thr, self.num_classes)
        panoptic, stuff = paste_stuff(
            panoptic,
            semantic,
            self.num_things_classes,
            self.num_stuff_classes,
            self.stuff_area_limit,
            self.stuff_area_mode,
        )
        return panoptic, list_segments(pasted, labels, scores, stuff)
