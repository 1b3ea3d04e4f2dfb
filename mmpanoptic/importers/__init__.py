"""Labels of annotation tools and other datasets to COCO's panoptic and instances formats."""

from . import coco_instances, cvat, label_studio, labelme, yolo_seg
from .classes import decide, given_classes
from .layers import ORDERS
from .records import Format, LabelledImage, Labels, LeftOut, Shape
from .splits import WAYS, split_names
from .write import REPORT, Plan, write_dataset

#: What can be imported, by name.
READERS = {
    'coco-instances': Format(coco_instances.read, 'area', 'an instances JSON of COCO, or a folder with some'),
    'labelme': Format(labelme.read, 'area', "a folder of LabelMe's JSON files"),
    'cvat': Format(cvat.read, 'z', "the annotations.xml of 'CVAT for images 1.1', or its folder"),
    'label-studio': Format(label_studio.read, 'area', "Label Studio's export as JSON"),
    'yolo-seg': Format(yolo_seg.read, 'area', 'the data.yaml of YOLO polygons, or its folder'),
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
