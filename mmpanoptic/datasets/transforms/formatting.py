"""Packing."""

import torch
from mmdet.datasets.transforms import PackDetInputs
from mmengine.structures import PixelData

from mmpanoptic.registry import TRANSFORMS
from mmpanoptic.utils import DatasetError


@TRANSFORMS.register_module()
class PackPanopticInputs(PackDetInputs):
    """mmdet's packing, plus ``gt_panoptic_seg`` for evaluation.

    ``data_samples.gt_panoptic_seg`` is a :obj:`PixelData` whose ``sem_seg`` of shape (1, H, W) holds the ids of the
    panoptic PNG (int32, void 0) at the original size; its metainfo has ``segments_info`` (in the JSON's order) and
    ``sample_idx``, the sample's place in the dataset.

    Raises:
        DatasetError: If the semantic map or the masks are not of the image's size: a transform before, such as one that
            mixes images, has changed one of them alone.
    """

    def transform(self, results: dict) -> dict:
        """Pack ``results`` into ``inputs`` (3, H, W) and ``data_samples``."""
        size = results['img'].shape[:2]
        for name in ('gt_seg_map', 'gt_masks'):
            other = results[name].shape[:2] if name == 'gt_seg_map' and name in results else None
            if name == 'gt_masks' and name in results:
                other = results[name].height, results[name].width
            if other is not None and other != size:
                raise DatasetError(
                    f'{results["img_path"]}: {name} is {other[0]}x{other[1]} (height x width) where the image is '
                    f'{size[0]}x{size[1]}: a transform of the pipeline does not transform it, leave that one out'
                )
        packed = super().transform(results)
        if 'gt_panoptic_map' in results:
            ground_truth = PixelData(sem_seg=torch.from_numpy(results['gt_panoptic_map'])[None])
            ground_truth.set_metainfo(
                dict(segments_info=results['segments_info'], sample_idx=results.get('sample_idx', 0))
            )
            packed['data_samples'].gt_panoptic_seg = ground_truth
        return packed
