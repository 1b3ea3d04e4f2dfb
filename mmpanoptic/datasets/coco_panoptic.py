"""COCO panoptic annotations as they are distributed."""

import logging
import os.path as osp
from collections.abc import Mapping, Sequence
from typing import Any

from mmdet.datasets import BaseDetDataset
from mmengine.fileio import join_path
from mmengine.logging import print_log
from mmengine.utils import is_abs

from mmpanoptic.formats.instances_json import load_instances
from mmpanoptic.formats.panoptic_json import (
    annotations_by_image,
    check_metainfo,
    dataset_meta,
    parse_categories,
    parse_segments,
    read_json,
)
from mmpanoptic.registry import DATASETS
from mmpanoptic.results.coco import Category, CheckedSegment, CocoImage, Id, PanopticAnnotation
from mmpanoptic.utils import DatasetError, check_storage

from .pipelines import Pipeline, steps_of
from .sample_files import check_entries, check_files


@DATASETS.register_module()
class CocoPanopticDataset(BaseDetDataset):
    """Panoptic dataset in COCO's format, one JSON and a folder of PNGs, without conversion.

    Categories come from the JSON (things first, then stuff, each in the file's order), so a custom dataset needs no
    class list in the config; a list in ``metainfo.classes`` is checked against the file. Samples are in the order of
    the file's ``annotations``. Files that contradict each other are refused on construction.

    Args:
        ann_file: The panoptic JSON, relative to ``data_root``. Without annotations in it (COCO's test sets), images
            have no ground truth.
        data_prefix: ``img``, the folder of the images, and ``seg``, the folder of the panoptic PNGs, relative to
            ``data_root``. If ``seg`` is missing or None, it is the JSON's path without suffix, as in COCO and
            Cityscapes.
        inst_ann_file: Instances JSON whose masks may overlap; boxes and masks then come from it instead of from the
            PNG, see :func:`~mmpanoptic.formats.instances_json.load_instances`.
        filter_cfg: Used in training. ``filter_empty_gt`` drops images whose things are all crowds or that have none;
            ``min_size`` drops images with a shorter side (pixels).
        pipeline: Steps by name or as a list, see :func:`~mmpanoptic.datasets.pipelines.steps_of`.
        kwargs: See :class:`mmdet.datasets.BaseDetDataset`.

    Raises:
        DatasetError: If files are missing or disagree, if no image is left, or if ``filter_cfg`` or ``data_prefix`` has
            an entry that nothing reads.
    """

    _metainfo: dict[str, Any]

    def __init__(self, *args, inst_ann_file: str | None = None, pipeline: Pipeline = (), **kwargs) -> None:
        self.inst_ann_file = inst_ann_file
        check_entries(type(self).__name__, kwargs)
        super().__init__(*args, pipeline=steps_of(pipeline), **kwargs)

    @property
    def metainfo(self) -> dict[str, Any]:
        """Metainfo of the JSON and the config; loads the annotations if necessary.

        Keys are ``classes``, ``thing_classes``, ``stuff_classes``, ``palette``, ``categories`` (see
        :func:`~mmpanoptic.formats.panoptic_json.dataset_meta`) and those that the config adds.
        """
        self.full_init()
        return super().metainfo

    def _join_prefix(self) -> None:
        check_storage(self.data_root or '')
        self.data_prefix.setdefault('img', '')
        if not self.data_prefix.get('seg'):  # None removes the entry of an inherited config
            self.data_prefix.pop('seg', None)
        super()._join_prefix()
        if self.inst_ann_file and self.data_root and not is_abs(self.inst_ann_file):
            self.inst_ann_file = join_path(self.data_root, self.inst_ann_file)
        self.data_prefix.setdefault('seg', osp.splitext(self.ann_file)[0])

    def load_data_list(self) -> list[dict[str, Any]]:
        """Read and check the annotations.

        Returns:
            One dict per image, with ``img_path``, ``img_id``, ``height``, ``width``, ``seg_map_path`` (None without
            ground truth), ``segments_info`` (see :func:`~mmpanoptic.formats.panoptic_json.parse_segments`) and
            ``instances``.
        """
        data = read_json(self.ann_file, self.backend_args)
        categories = parse_categories(data.get('categories'), self.ann_file)
        meta = dataset_meta(categories)
        check_metainfo(self._metainfo, meta, self.ann_file)
        kept = {key: value for key, value in self._metainfo.items() if key not in meta or key == 'palette'}
        self._metainfo = {**meta, **kept}

        category_of = {category['id']: category for category in categories}
        pairs = annotations_by_image(data, self.ann_file)
        if pairs[0][1] is None and not self.test_mode:
            raise DatasetError(
                f'{self.ann_file} has no annotations: train on a file that has them, or set test_mode=True'
            )
        instances_of = self._load_instances(category_of, [image for image, _ in pairs])
        data_list = []
        for image, annotation in pairs:
            info: dict[str, Any] = dict(
                img_path=self.image_path(image, annotation),
                img_id=image['id'],
                height=image['height'],
                width=image['width'],
                seg_map_path=None,
                segments_info=[],
                instances=[],
            )
            if annotation is not None:
                info['seg_map_path'] = osp.join(self.data_prefix['seg'], annotation['file_name'])
                info['segments_info'] = parse_segments(annotation, category_of, self.ann_file)
                if instances_of is None:
                    info['instances'] = _instances_of_segments(info['segments_info'])
                else:
                    info['instances'] = instances_of.get(image['id'], [])
            data_list.append(info)
        check_files(data_list, self.ann_file, self.backend_args)
        return data_list

    def image_path(self, image: CocoImage, annotation: PanopticAnnotation | None) -> str:
        """Path of an image, given its entries in ``images`` and ``annotations``."""
        return osp.join(self.data_prefix['img'], image['file_name'])

    def _load_instances(
        self, category_of: Mapping[Id, Category], images: Sequence[CocoImage]
    ) -> dict[Id, list[dict[str, Any]]] | None:
        """Instances by image id from ``inst_ann_file``; None without such a file."""
        if not self.inst_ann_file:
            return None
        data = read_json(self.inst_ann_file, self.backend_args)
        return load_instances(data, self.inst_ann_file, category_of, images, self.ann_file)

    def filter_data(self) -> list[dict[str, Any]]:
        """Drop images as ``filter_cfg`` says; an empty dataset is an error, also in testing."""
        kept = self.data_list
        if not self.test_mode and self.filter_cfg:
            min_size = self.filter_cfg.get('min_size', 0)
            kept = [info for info in kept if min(info['height'], info['width']) >= min_size]
            if self.filter_cfg.get('filter_empty_gt', False):
                kept = [info for info in kept if any(not instance['ignore_flag'] for instance in info['instances'])]
            if len(kept) < len(self.data_list):
                print_log(
                    f'{self.ann_file}: {len(self.data_list) - len(kept)} of {len(self.data_list)} images dropped by '
                    f'filter_cfg {dict(self.filter_cfg)}',
                    logger='current',
                    level=logging.INFO,
                )
        if not kept:
            raise DatasetError(
                f'{self.ann_file}: no image is left of {len(self.data_list)}: the dataset is empty after filter_cfg '
                f'{dict(self.filter_cfg)}; loosen it'
            )
        return kept

    def _get_unserialized_subset(self, indices: int | Sequence[int]) -> list[dict[str, Any]]:
        try:
            chosen = super()._get_unserialized_subset(indices)
        except (AssertionError, IndexError):
            chosen = []
        if not chosen:
            raise DatasetError(
                f'{self.ann_file}: `indices` {indices} do not choose among its {len(self.data_list)} images: mend or '
                'drop them'
            )
        return chosen


def _instances_of_segments(segments: Sequence[CheckedSegment]) -> list[dict[str, Any]]:
    """Things of a panoptic annotation as mmdet's ``instances``; masks are cut from the PNG when it is loaded.

    Crowds are kept as ignored instances. Boxes thinner than a pixel are dropped, as mmdet does.
    """
    instances = []
    for index, segment in enumerate(segments):
        x, y, w, h = segment['bbox']
        if segment['is_thing'] and segment['area'] > 0 and w >= 1 and h >= 1:
            instances.append(
                dict(
                    bbox=[x, y, x + w, y + h],
                    bbox_label=segment['label'],
                    ignore_flag=segment['iscrowd'],
                    segment=index,
                )
            )
    return instances
