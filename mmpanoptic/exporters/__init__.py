"""Export of COCO panoptic files, labels or predictions, to formats of annotation tools and other training programs."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from mmpanoptic.results.coco import CocoImage, PanopticAnnotation
from mmpanoptic.utils import tracked_map, whole_folder
from mmpanoptic.utils.outputs import place_image

from . import formats
from .formats import Options, Target
from .items import Item, PanopticFiles

MAKER = 'tools/dataset_converters/export.py'

#: Formats that can be exported to, by name.
TARGETS = {
    'coco-instances': Target(formats.coco_image, formats.write_coco, 'instances.json, things alone'),
    'semantic-png': Target(formats.semantic_image, formats.write_semantic, 'semantic/*.png of category ids'),
    'labelme': Target(formats.labelme_image, formats.write_labelme, 'a JSON beside each image', images='.'),
    'cvat': Target(formats.cvat_image, formats.write_cvat, "annotations.xml, 'CVAT for images 1.1'"),
    'label-studio': Target(
        formats.label_studio_image, formats.write_label_studio, 'tasks.json with predictions, and label_config.xml'
    ),
    'yolo-seg': Target(
        formats.yolo_image, formats.write_yolo, 'data.yaml and labels/', images='images/{split}', crowds=False
    ),
}


def export(
    name: str, files: PanopticFiles, out: Path, options: Options, copy_images: bool, workers: int
) -> dict[str, int]:
    """Write all images of a dataset in a format, whole or not at all.

    Args:
        name: One of :data:`TARGETS`.
        files: The dataset.
        out: The folder; what an earlier call made there is replaced.
        options: See :class:`~.formats.Options`.
        copy_images: Whether to copy images instead of linking them.
        workers: Number of processes.

    Returns:
        Numbers of ``images``, ``segments`` and ``crowds``.

    Raises:
        DatasetError: If files are missing or do not fit together.
        UserError: If ``out`` holds anything that no such call made.
        WriteError: If it cannot be written.
    """
    target = TARGETS[name]
    numbers = {'images': 0, 'segments': 0, 'crowds': 0}
    describe = partial(_describe, files=files, name=name, options=options)

    with whole_folder(out, MAKER, 'OUT') as folder:
        images = folder / target.images.format(split=options.split)

        def results() -> Iterator[Any]:
            done = tracked_map(describe, files.pairs, workers, 'Exporting')
            for (image, _), (result, segments, crowds) in zip(files.pairs, done, strict=True):
                place_image(files.image_path(image), images / files.image_name(image), copy_images)
                for key, number in (('images', 1), ('segments', segments), ('crowds', crowds)):
                    numbers[key] += number
                yield result

        target.write(folder, results(), files.categories, options)
    return numbers


def _describe(
    pair: tuple[CocoImage, PanopticAnnotation], files: PanopticFiles, name: str, options: Options
) -> tuple[Any, int, int]:
    item = files.load(pair)
    result = TARGETS[name].image(item, files.categories, options)
    return result, len(item.segments), sum(segment['iscrowd'] for segment in item.segments)


__all__ = ['TARGETS', 'Item', 'Options', 'PanopticFiles', 'Target', 'export']
