"""Packing of samples."""

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
    ``sample_idx``, the sample's index in the dataset.

    Raises:
        DatasetError: If, in training, the semantic map does not have the image's size: an earlier transform, such as
            one that mixes images, has changed only the image.
    """

    def transform(self, results: dict) -> dict:
        """Pack ``results`` into ``inputs`` (3, H, W) and ``data_samples``."""
        semantic = results.get('gt_seg_map')
        # In testing, annotations have the original size and include the panoptic map.
        if semantic is not None and 'gt_panoptic_map' not in results and semantic.shape != results['img'].shape[:2]:
            sizes = [f'{height}x{width}' for height, width in (semantic.shape, results['img'].shape[:2])]
            raise DatasetError(
                f'{results["img_path"]}: gt_seg_map is {sizes[0]} (height x width) where the image is {sizes[1]}: a '
                'transform of the pipeline does not change it, remove that one (or load with_panoptic in testing)'
            )
        packed = super().transform(results)
        if 'gt_panoptic_map' in results:
            ground_truth = PixelData(sem_seg=torch.from_numpy(results['gt_panoptic_map'])[None])
            ground_truth.set_metainfo(
                dict(segments_info=results['segments_info'], sample_idx=results.get('sample_idx', 0))
            )
            packed['data_samples'].gt_panoptic_seg = ground_truth
        return packed
