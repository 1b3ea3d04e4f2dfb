"""Mapillary Vistas."""

from mmpanoptic.registry import DATASETS

from .coco_instance import CocoInstanceDataset


@DATASETS.register_module()
class MapillaryVistasDataset(CocoInstanceDataset):
    """Instances of Mapillary Vistas: 37 thing classes in v1.2, as its ``config.json`` lists them.

    The instances JSON comes from ``tools/dataset_converters/mapillary.py``; classes and colours are those of the file.
    Its instance maps mark no crowds.

    https://www.mapillary.com/dataset/vistas; Neuhold et al., The Mapillary Vistas Dataset for Semantic Understanding of
    Street Scenes, ICCV 2017.
    """
