"""What all fusion heads have in common."""

from abc import abstractmethod
from typing import Any

from mmdet.models.seg_heads.panoptic_fusion_heads import BasePanopticFusionHead
from mmengine.structures import InstanceData, PixelData
from torch import Tensor, nn

from mmpanoptic.registry import MODELS
from mmpanoptic.structures import INSTANCE_OFFSET


def build_fusion_head(config: dict, test_cfg: dict | None) -> nn.Module:
    """The fusion head of a detector, whose ``test_cfg.panoptic`` are its thresholds unless it has a test_cfg itself."""
    return MODELS.build(config, default_args=dict(test_cfg=(test_cfg or {}).get('panoptic')))


class BaseFusionHead(BasePanopticFusionHead):
    """Instances and a map over pixels to a panoptic map, image by image, without anything to learn.

    A subclass keeps its thresholds as attributes, names them in ``test_cfg_keys``, calls ``self.override(test_cfg)``
    once they are set, and implements ``fuse``.

    Args:
        num_things_classes: Number of thing classes, labels 0 to T - 1.
        num_stuff_classes: Number of stuff classes, labels T to T + S - 1.
        init_cfg: As in mmengine's BaseModule.

    Raises:
        ValueError: If the classes are so many that labels and instance numbers do not fit in one id.
    """

    test_cfg_keys: tuple[str, ...] = ()

    def __init__(self, num_things_classes: int, num_stuff_classes: int, init_cfg: dict | None = None) -> None:
        super().__init__(num_things_classes, num_stuff_classes, init_cfg=init_cfg)
        if self.num_classes >= INSTANCE_OFFSET:
            raise ValueError(f'{self.num_classes} classes: a panoptic map has room for {INSTANCE_OFFSET - 1}')

    def override(self, test_cfg: dict | None) -> None:
        """Replace thresholds by those of ``test_cfg``, which a detector passes on from its ``test_cfg.panoptic``.

        Raises:
            ValueError: If a key is not in ``test_cfg_keys``.
        """
        self.test_cfg = test_cfg
        for key, value in (test_cfg or {}).items():
            if key not in self.test_cfg_keys:
                raise ValueError(
                    f'{type(self).__name__}: test_cfg has no key {key!r}, only {", ".join(self.test_cfg_keys)}'
                )
            setattr(self, key, value)

    def loss(self, *args: Any, **kwargs: Any) -> dict:
        """Nothing is learned: no losses."""
        return {}

    def predict(self, mask_results_list: list[InstanceData], seg_preds_list: list[Tensor]) -> list[PixelData]:
        """Panoptic map of each image.

        Args:
            mask_results_list: Instances of each image, see ``fuse``.
            seg_preds_list: Map over pixels of each image, see ``fuse``.

        Returns:
            For each image ``sem_seg``, int32 of shape (1, H, W) on the device of ``seg_preds``: ``label +
            INSTANCE_OFFSET * k`` for the k-th thing (k = 1, 2, ...), the label for stuff, ``num_classes`` for void. Its
            metainfo ``segments_info`` lists the map's segments: dict(id, label, score, instance), the last two None
            for stuff; ``instance`` is an index into the given instances.

        Raises:
            ValueError: If the lists are not equally long.
        """
        if len(mask_results_list) != len(seg_preds_list):
            raise ValueError(
                f'instances of {len(mask_results_list)} images and semantic predictions of {len(seg_preds_list)}'
            )
        results = []
        for instances, seg_preds in zip(mask_results_list, seg_preds_list, strict=True):
            panoptic, segments_info = self.fuse(instances, seg_preds)
            sem_seg = panoptic[None].to(seg_preds.device)
            results.append(PixelData(sem_seg=sem_seg, metainfo={'segments_info': segments_info}))
        return results

    @abstractmethod
    def fuse(self, instances: InstanceData, seg_preds: Tensor) -> tuple[Tensor, list[dict]]:
        """Panoptic map of one image, int32 of shape (H, W), and its ``segments_info``; arguments stay as they are."""
