"""Labels of annotation tools and other datasets to COCO's panoptic and instances formats."""

from . import (
    ade20k,
    cityscapes_polygons,
    coco_instances,
    coco_semantic,
    cvat,
    cwfid,
    label_maps,
    label_studio,
    labelme,
    mapillary,
    supervisely,
    voc,
    yolo_seg,
)
from .classes import decide, given_classes
from .layers import ORDERS
from .records import Format, LabelledImage, Labels, LeftOut, Shape
from .sources import REPORT
from .splits import WAYS, split_names
from .write import Plan, write_dataset

#: Formats that can be imported, by name.
READERS = {
    'coco-instances': Format(coco_instances.read, 'area', 'an instances JSON of COCO, or a folder with some'),
    'coco-semantic': Format(
        coco_semantic.read, 'area', 'a folder with an instances JSON of COCO and semantic PNGs', takes_classes=True
    ),
    'labelme': Format(labelme.read, 'area', "a folder of LabelMe's JSON files"),
    'cvat': Format(cvat.read, 'z', "the annotations.xml of 'CVAT for images 1.1', or its folder"),
    'label-studio': Format(label_studio.read, 'area', "Label Studio's export as JSON"),
    'yolo-seg': Format(yolo_seg.read, 'area', 'the data.yaml of YOLO polygons, or its folder'),
    'supervisely': Format(supervisely.read, 'file', 'the folder of a project of Supervisely'),
    'label-maps': Format(
        label_maps.read, 'area', 'a folder with images/, labels/ and perhaps semantic/', takes_classes=True
    ),
    'voc': Format(voc.read, 'area', 'a folder with SegmentationClass/ and SegmentationObject/'),
    'cityscapes-polygons': Format(cityscapes_polygons.read, 'file', "a folder with Cityscapes' *_polygons.json"),
    'cwfid': Format(cwfid.read, 'area', 'the folder of the Crop/Weed Field Image Dataset'),
    'mapillary': Format(mapillary.read, 'area', 'the folder of Mapillary Vistas, or its config_v1.2.json'),
    'ade20k': Format(ade20k.read, 'area', 'ADEChallengeData2016 with annotations_instance/'),
}

__all__ = [
    'ORDERS',
    'READERS',
    'REPORT',
    'WAYS',
    'Format',
    'LabelledImage',
    'Labels',
    'LeftOut',
    'Plan',
    'Shape',
    'decide',
    'given_classes',
    'split_names',
    'write_dataset',
]
