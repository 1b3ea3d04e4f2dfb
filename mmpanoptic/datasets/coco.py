"""mmdet's COCO dataset with a pipeline of named steps, and with errors that name the file."""

from typing import Any

import mmdet.datasets

from mmpanoptic.formats.coco_api import load_coco
from mmpanoptic.registry import DATASETS
from mmpanoptic.utils import DatasetError, check_storage

from .pipelines import Pipeline, steps_of
from .sample_files import check_entries, check_files


@DATASETS.register_module()
class CocoDataset(mmdet.datasets.CocoDataset):
    """mmdet's dataset of that name, with the checks of :func:`~mmpanoptic.formats.coco_api.load_coco`.

    Args:
        pipeline: See :func:`~mmpanoptic.datasets.pipelines.steps_of`.
        kwargs: See :class:`mmdet.datasets.CocoDataset`.

    Raises:
        DatasetError: If files are missing or wrong, a class of ``metainfo.classes`` is not in the JSON, or no image is
            left.
    """

    COCOAPI = staticmethod(load_coco)

    def __init__(self, *args, pipeline: Pipeline = (), **kwargs) -> None:
        check_entries(type(self).__name__, kwargs)
        super().__init__(*args, pipeline=steps_of(pipeline), **kwargs)

    def _join_prefix(self) -> None:
        check_storage(self.data_root or '')
        super()._join_prefix()

    def load_data_list(self) -> list[dict[str, Any]]:
        """See :class:`mmdet.datasets.CocoDataset`."""
        check_storage(self.ann_file, self.backend_args)
        samples = super().load_data_list()
        annotated = not self.test_mode or any(sample['instances'] for sample in samples)
        if annotated and len(self.cat_ids) < len(self.metainfo['classes']):  # labels and names would not match
            raise DatasetError(
                f'{self.ann_file} has {len(self.cat_ids)} of the {len(self.metainfo["classes"])} classes of '
                '`metainfo.classes`: list its `categories` there, or use CocoInstanceDataset, which reads them'
            )
        check_files(samples, self.ann_file, self.backend_args)
        return samples

    def filter_data(self) -> list[dict[str, Any]]:
        """See :class:`mmdet.datasets.CocoDataset`; an empty dataset is an error, also in testing."""
        kept = super().filter_data()
        if not kept:
            raise DatasetError(
                f'{self.ann_file}: no image is left of {len(self.data_list)} after filter_cfg {self.filter_cfg}: '
                'annotate some or loosen it'
            )
        return kept
