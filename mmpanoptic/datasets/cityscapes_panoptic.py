"""Cityscapes with the panoptic annotations that cityscapesscripts makes."""

import os.path as osp

from mmpanoptic.registry import DATASETS
from mmpanoptic.results.coco import CocoImage, PanopticAnnotation
from mmpanoptic.utils import DatasetError

from .coco_panoptic import CocoPanopticDataset


@DATASETS.register_module()
class CityscapesPanopticDataset(CocoPanopticDataset):
    """8 thing and 11 stuff classes, from ``cityscapes_panoptic_{split}.json`` and its folder of PNGs.

    Both come from cityscapesscripts' ``createPanopticImgs`` (``tools/dataset_converters/cityscapes.py``). Image ids are
    strings such as ``aachen_000000_000019``. The JSON's ``file_name`` of an image is not a path, since images lie in a
    folder per city. Regions of several instances (groups) are crowds; labels that the benchmark ignores are void.

    https://github.com/mcordts/cityscapesScripts
    """

    def image_path(self, image: CocoImage, annotation: PanopticAnnotation | None) -> str:
        """``<img>/<city>/<image id>_leftImg8bit.png``.

        Raises:
            DatasetError: If the id is not one of Cityscapes.
        """
        name = str(image['id'])
        if name.count('_') < 2:
            raise DatasetError(
                f'{self.ann_file}: image id {image["id"]!r} is none of Cityscapes (such as aachen_000000_000019): make '
                'the file with tools/dataset_converters/cityscapes.py, or use CocoPanopticDataset'
            )
        return osp.join(self.data_prefix['img'], name.split('_')[0], f'{name}_leftImg8bit.png')
