"""Packing."""

import torch
from mmdet.datasets.transforms import PackDetInputs
from mmengine.structures import PixelData

from mmpanoptic.registry import TRANSFORMS


@TRANSFORMS.register_module()
class PackPanopticInputs(PackDetInputs):
    """mmdet's packing, plus ``gt_panoptic_seg`` for evaluation.

    ``data_samples.gt_panoptic_seg`` is a :obj:`PixelData` whose ``sem_seg`` of shape (1, H, W) holds the ids of the
    panoptic PNG (int32, void 0) at the original size; its metainfo has ``segments_info`` (in the JSON's order) and
    ``sample_idx``, the sample's place in the dataset.
    """

    def transform(self, results: dict) -> dict:
        """Pack ``results`` into ``inputs`` (3, H, W) and ``data_samples``."""
        packed = super().transform(results)
        if 'gt_panoptic_map' in results:
            ground_truth = PixelData(sem_seg=torch.from_numpy(results['gt_panoptic_map'])[None])
            ground_truth.set_metainfo(
                dict(segments_info=results['segments_info'], sample_idx=results.get('sample_idx', 0))
            )
            packed['data_samples'].gt_panoptic_seg = ground_truth
        return packed
