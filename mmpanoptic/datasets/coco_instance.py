"""COCO instances JSON, its classes read from the file."""

import os.path as osp
from typing import Any

from mmpanoptic.formats.instances_json import load_instances, parse_things, with_used_categories
from mmpanoptic.formats.panoptic_json import annotations_by_image, check_metainfo, dataset_meta, read_json
from mmpanoptic.registry import DATASETS
from mmpanoptic.results.coco import Id

from .coco_panoptic import CocoPanopticDataset
from .sample_files import check_files


@DATASETS.register_module()
class CocoInstanceDataset(CocoPanopticDataset):
    """Instances without a panoptic map: one JSON in COCO's instances format, whose ``categories`` are the classes.

    mmdet's ``CocoDataset`` takes the class list from the config, and its images have no instances if the names differ
    from those of the file. This class refuses such files, like :class:`CocoPanopticDataset`. Load its samples with
    mmdet's ``LoadAnnotations`` and score them with ``InstanceMetric`` and the same ``ann_file``.

    Args:
        ann_file: The instances JSON, relative to ``data_root``.
        data_prefix: ``img``, the folder that the ``file_name`` of images are relative to.
        need_masks: Whether every annotation must have a mask; detection needs none.
        kwargs: See :class:`CocoPanopticDataset`; ``inst_ann_file`` is not used.

    Raises:
        DatasetError: If files are missing or disagree, or if no image is left.
    """

    def __init__(self, *args, need_masks: bool = True, **kwargs) -> None:
        self.need_masks = need_masks
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """Read and check the annotations.

        Returns:
            One dict per image, in the order of the file's ``images``, with ``img_path``, ``img_id``, ``height``,
            ``width``, ``seg_map_path`` (None) and ``instances`` (see
            :func:`~mmpanoptic.formats.instances_json.load_instances`).
        """
        path = self.ann_file
        data = with_used_categories(read_json(path, self.backend_args), path)
        categories = parse_things(data, path)
        meta = dataset_meta(categories)
        check_metainfo(self._metainfo, meta, path)
        kept = {key: value for key, value in self._metainfo.items() if key not in meta or key == 'palette'}
        self._metainfo = {**meta, **kept}

        images = [image for image, _ in annotations_by_image({'images': data.get('images')}, path)]
        instances_of: dict[Id, list[dict[str, Any]]] = {}
        if data.get('annotations') or not self.test_mode:
            known = {category['id']: category for category in categories}
            instances_of = load_instances(data, path, known, images, None, self.need_masks)
        data_list = [
            dict(
                img_path=osp.join(self.data_prefix['img'], image['file_name']),
                img_id=image['id'],
                height=image['height'],
                width=image['width'],
                seg_map_path=None,
                instances=instances_of.get(image['id'], []),
            )
            for image in images
        ]
        check_files(data_list, self.ann_file, self.backend_args)
        return data_list
