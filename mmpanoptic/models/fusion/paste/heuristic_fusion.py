"""Fusion by detection score."""

from collections.abc import Sequence

import numpy as np
import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmpanoptic.models.fusion.base import BaseFusionHead
from mmpanoptic.models.fusion.segments import list_segments
from mmpanoptic.models.fusion.stuff import STUFF_AREA_MODES, paste_stuff, stuff_labels
from mmpanoptic.models.fusion.transfer import fetch
from mmpanoptic.registry import MODELS
from mmpanoptic.structures import Evidence, StuffLabels, StuffLogits
from mmpanoptic.utils import require_choice

from . import groups
from .instances import order_instances, paste_instances


@MODELS.register_module()
class HeuristicFusion(BaseFusionHead):
    """Paste instances in the order of their scores, then give void pixels to stuff.

    Source: Kirillov et al., Panoptic Segmentation, section 7, https://arxiv.org/abs/1801.00868. Defaults are those of
    the official script,
    https://github.com/cocodataset/panopticapi/blob/master/combine_semantic_and_instance_predictions.py

    Args:
        num_things_classes: Number of thing classes, labels 0 to T - 1.
        num_stuff_classes: Number of stuff classes, labels T to T + S - 1.
        score_thr: Instances with a lower score are left out.
        overlap_thr: An instance is left out if a larger part of it is covered by instances that were pasted before.
        stuff_area_limit: Stuff that would get fewer pixels than this stays void.
        stuff_area_mode: What the limit applies to: 'segment', all pixels of a class in the image, or 'component', each
            8-connected component of these pixels.
        init_cfg: As in mmengine's BaseModule.

    Raises:
        ValueError: If ``stuff_area_mode`` is neither of the two.
    """

    #: Fields of the instances that are copied to the CPU.
    fields: tuple[str, ...] = ('scores', 'labels')
    needs_things = False

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
        require_choice('stuff_area_mode', stuff_area_mode, STUFF_AREA_MODES)

    def order(self, evidence: Evidence) -> list[int]:
        """Indices of the instances to paste, the first one on top, without instances below ``score_thr``."""
        return self._order(evidence, *fetch(evidence.instances.scores, evidence.instances.labels))[0]

    def _order(self, evidence: Evidence, scores: Tensor, labels: Tensor) -> tuple[list[int], dict[str, list[float]]]:
        """The same, given scores and labels on the CPU; and, if sorted by other values, these values by name."""
        return order_instances(scores, self.score_thr), {}

    def fuse(
        self, evidence: Evidence[StuffLogits | StuffLabels], order: Sequence[int] | None = None
    ) -> tuple[Tensor, list[dict]]:
        """Fuse one image.

        Args:
            evidence: Instances with ``masks``, and logits or labels of stuff.
            order: Indices of the instances to paste, the first one on top; None: result of the method ``order``.

        Returns:
            Panoptic map, int32 of shape (H, W) on the device of the evidence, and its ``segments_info``.

        Raises:
            ValueError: If masks or stuff are not of the size of the map, or the number of logits is not the one that
                their ``channels`` means.
        """
        semantic = stuff_labels(evidence.stuff, self.num_things_classes, self.num_stuff_classes)
        instances, size = evidence.instances, tuple(evidence.output_size)
        more: dict[str, list[float]] = {}
        sizes = dict(stuff=tuple(semantic.shape))
        if len(instances):
            sizes['masks'] = tuple(instances.masks.shape[1:])
        if any(found != size for found in sizes.values()):
            raise ValueError(
                f'the panoptic map is to be of size {size} (height, width), but its evidence has other sizes: {sizes}'
            )
        if not len(instances):
            no_masks = semantic.new_zeros((0, *semantic.shape), dtype=torch.bool)
            instances = InstanceData(masks=no_masks, bboxes=semantic.new_zeros((0, 4)))
            seen, order = InstanceData(scores=torch.zeros(0), labels=torch.zeros(0, dtype=torch.long)), []
        else:
            fetched = fetch(*(instances[name] for name in self.fields))
            seen = InstanceData(**dict(zip(self.fields, fetched, strict=True)))
            if order is None:
                order, more = self._order(evidence, seen.scores, seen.labels)
        panoptic, pasted, stuff = self._paste(instances, seen, order, semantic)
        return panoptic, list_segments(pasted, seen.labels.tolist(), seen.scores.tolist(), stuff, more)

    def _paste(
        self, instances: InstanceData, seen: InstanceData, order: Sequence[int], semantic: Tensor
    ) -> tuple[Tensor, list[int], list[int]]:
        """The map, the indices of the instances in it, and the labels of the stuff in it.

        Args:
            instances: Instances with ``masks``.
            seen: The same instances with ``fields`` alone, on the CPU.
            order: See ``fuse``.
            semantic: Stuff class of each pixel, int64 of shape (H, W).
        """
        instances, labels = instances.to(semantic.device), seen.labels.tolist()
        if semantic.device.type == 'cpu':
            panoptic, pasted = paste_instances(instances.masks, labels, order, self.overlap_thr, self.num_classes)
            return self._complete(panoptic, pasted, seen, order, semantic)
        # On a GPU many small steps that each need one count are slow.
        if self.stuff_area_mode == 'segment':
            grouped = groups.group_pixels(self._planes(instances), semantic)
            values, pasted, stuff = self._decide(grouped, labels, order)
            return torch.from_numpy(values).to(semantic.device)[grouped.group], pasted, stuff
        # A component is not a union of groups, so OpenCV finds components on the CPU.
        grouped = groups.group_pixels([groups.pack_masks(instances.masks)], semantic, on_cpu=True)
        values, pasted = groups.paste_instances(grouped, labels, order, self.overlap_thr, self.num_classes)
        panoptic, semantic_on_cpu = (torch.from_numpy(found)[grouped.group] for found in (values, grouped.labels))
        panoptic, pasted, stuff = self._complete(panoptic, pasted, seen, order, semantic_on_cpu)
        return panoptic.to(semantic.device), pasted, stuff

    def _complete(
        self, panoptic: Tensor, pasted: list[int], seen: InstanceData, order: Sequence[int], semantic: Tensor
    ) -> tuple[Tensor, list[int], list[int]]:
        """Result of :meth:`_paste`, given a map with all instances and no stuff; all on the CPU."""
        classes = self.num_things_classes, self.num_stuff_classes
        panoptic, stuff = paste_stuff(panoptic, semantic, *classes, self.stuff_area_limit, self.stuff_area_mode)
        return panoptic, pasted, stuff

    def _planes(self, instances: InstanceData) -> list[Tensor]:
        """Packed masks, the planes by which pixels are grouped."""
        return [groups.pack_masks(instances.masks)]

    def _decide(
        self, grouped: groups.PixelGroups, labels: list[int], order: Sequence[int]
    ) -> tuple[np.ndarray, list[int], list[int]]:
        """Result of :meth:`_paste`, with the values of groups of pixels instead of the map."""
        values, pasted = groups.paste_instances(grouped, labels, order, self.overlap_thr, self.num_classes)
        classes = self.num_things_classes, self.num_stuff_classes
        values, stuff = groups.paste_stuff(grouped, values, *classes, self.stuff_area_limit)
        return values, pasted, stuff
