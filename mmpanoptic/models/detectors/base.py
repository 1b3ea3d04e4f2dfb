"""Base of all panoptic detectors: evidence, fusion, a panoptic map."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from mmdet.structures import SampleList
from mmengine.structures import PixelData
from torch import Tensor

from mmpanoptic.registry import MODELS
from mmpanoptic.structures import Evidence
from mmpanoptic.utils import UserError

from .samples import add_predictions


class PanopticDetector:
    """Mixin for detectors that predict by collecting evidence and fusing it.

    Inherit it before one of mmdet's detectors. A subclass calls ``build_fusion_head`` in its constructor and implements
    ``evidence``.
    """

    #: A ConfigDict or None, set by mmdet's detectors.
    test_cfg: Any

    def build_fusion_head(self, config: dict) -> None:
        """Build ``panoptic_fusion_head``, and take the numbers of classes from it.

        Raises:
            UserError: If ``test_cfg`` has thresholds of fusion, as in mmdet's configs.
        """
        if thresholds := (self.test_cfg or {}).get('panoptic'):
            names = ', '.join(thresholds) if isinstance(thresholds, Mapping) else thresholds
            raise UserError(
                f'test_cfg.panoptic ({names}): thresholds of fusion are arguments of panoptic_fusion_head, such as '
                'score_thr, overlap_thr and stuff_area_limit: move them there'
            )
        self.panoptic_fusion_head = MODELS.build(config)
        self.num_things_classes: int = self.panoptic_fusion_head.num_things_classes
        self.num_stuff_classes: int = self.panoptic_fusion_head.num_stuff_classes
        self.num_classes: int = self.panoptic_fusion_head.num_classes

    @abstractmethod
    def evidence(self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True) -> list[Evidence]:
        """Evidence of each image of a batch.

        Args:
            batch_inputs: Images of shape (N, 3, H, W), normalised and padded.
            batch_data_samples: One sample per image.
            rescale: Whether the output has the original size; otherwise it has the size of the network's input.
        """

    def fuse(self, evidence: list[Evidence]) -> list[PixelData]:
        """Panoptic map of each image, see :meth:`~mmpanoptic.models.fusion.BaseFusionHead.predict`."""
        return self.panoptic_fusion_head.predict(evidence)

    def predict(self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True) -> SampleList:
        """Segment a batch.

        Args:
            batch_inputs, batch_data_samples, rescale: See ``evidence``.

        Returns:
            The samples, with ``pred_instances`` and ``pred_panoptic_seg`` set.
        """
        evidence = self.evidence(batch_inputs, batch_data_samples, rescale)
        return add_predictions(batch_data_samples, evidence, self.fuse(evidence))
