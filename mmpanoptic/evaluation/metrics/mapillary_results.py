"""Instances in the format of Mapillary Vistas' test server."""

import os.path as osp
from collections.abc import Sequence

from mmengine.dist import is_main_process
from mmengine.evaluator import BaseMetric

from mmpanoptic.registry import METRICS
from mmpanoptic.utils import UserError, check_replaceable, require_folder

from .written_results import instance_files, write_folder

_MAKER = 'MapillaryResults'


@METRICS.register_module()
class MapillaryResults(BaseMetric):
    """Files of predicted instances, without a score: ``<image>.txt`` and a PNG for each of its lines.

    A line holds the PNG's name, the index of the label in ``config.json``, and the score. The server ignores objects of
    fewer than 100 pixels and takes any number of instances per image: https://github.com/mapillary/mapillary_vistas

    Args:
        outfile_prefix: Folder for the files. It is written when all images are done, and replaces the folder of an
            earlier run.
        kwargs: See :class:`mmengine.evaluator.BaseMetric`.

    Raises:
        UserError: If an image has no masks, ``outfile_prefix`` holds anything else than an earlier result, or the
            dataset's categories are not those of ``tools/dataset_converters/mapillary.py``.
    """

    default_prefix = 'mapillary'

    def __init__(self, outfile_prefix: str, **kwargs) -> None:
        super().__init__(**kwargs)
        self.outfile_prefix = outfile_prefix

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Encode the masks of a batch."""
        if not self.results and is_main_process():
            check_replaceable(self.outfile_prefix, _MAKER, 'outfile_prefix')
            require_folder(osp.dirname(osp.abspath(self.outfile_prefix)), 'outfile_prefix')
        categories = self.dataset_meta.get('categories')
        if not categories:
            raise UserError('MapillaryResults: the dataset names no categories: take MapillaryVistasDataset')
        for sample in data_samples:
            instances = sample.get('pred_instances', {})
            if 'masks' not in instances:
                raise UserError(f'{sample["img_path"]}: the model predicts no masks, which Mapillary Vistas asks for')
            stem = osp.splitext(osp.basename(sample['img_path']))[0]
            # A category id is the index of the label plus one.
            ids = [categories[label]['id'] - 1 for label in instances['labels'].tolist()]
            self.results.append(instance_files(stem, instances, ids, f'{stem}.txt'))

    def compute_metrics(self, results: list[dict[str, bytes]]) -> dict[str, float]:
        """Write the files; called on the first rank."""
        write_folder(results, self.outfile_prefix, _MAKER)
        return {}
