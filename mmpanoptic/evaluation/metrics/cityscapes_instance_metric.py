"""Cityscapes' instance AP."""

import copy
import os
import os.path as osp
import tempfile
from collections.abc import Sequence

import cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling as official  # noqa: N813
import cv2
import mmdet.evaluation  # noqa: F401  (gives numpy >= 2.4 back the np.in1d that the official evaluator calls)
import numpy as np
from cityscapesscripts.evaluation.instances2dict import instances2dict
from cityscapesscripts.helpers.labels import name2label
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from PIL import Image

from mmpanoptic.registry import METRICS
from mmpanoptic.utils import UserError

_IMAGE, _INSTANCES = '_leftImg8bit', '_gtFine_instanceIds.png'


@METRICS.register_module()
class CityscapesInstanceMetric(BaseMetric):
    """AP and AP50 (in percent) of instance masks by cityscapesscripts' own evaluator.

    Every function that decides something is the evaluator's; here its files are written, and its matching is done image
    by image where an image was predicted, so that it is spread over the processes and nothing but numbers is gathered.
    The ground truth is read from the PNGs of the dataset, on a local disk. Unlike COCO's AP this one takes any number
    of instances an image, ignores those of fewer than 100 pixels, and leaves classes without ground truth out.

    mmdet's ``CityScapesMetric`` gives the same AP, but derives the ground truth's path from the image's whatever
    ``seg_prefix`` says, deletes ``results`` in ``outfile_prefix`` when it is made, and matches in one process.

    https://github.com/mcordts/cityscapesScripts (``evalInstanceLevelSemanticLabeling``)

    Args:
        seg_prefix: Folder of the split with ``<city>/<image id>_gtFine_instanceIds.png``, which
            ``tools/dataset_converters/cityscapes.py`` makes where they are missing. Needed unless ``format_only``.
        classwise: Whether to give the AP of every class as well.
        format_only: Write the files of ``outfile_prefix`` and score nothing, as for the test server.
        outfile_prefix: Folder for the server's files: ``<image>_pred.txt`` and one PNG an instance.
        kwargs: See :class:`mmengine.evaluator.BaseMetric`.

    Raises:
        UserError: If an image has no masks or no ground truth, their sizes differ, or a class is none of Cityscapes'.
    """

    default_prefix = 'cityscapes'

    def __init__(
        self,
        seg_prefix: str | None = None,
        classwise: bool = False,
        format_only: bool = False,
        outfile_prefix: str | None = None,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        if format_only and outfile_prefix is None:
            raise UserError('CityscapesInstanceMetric: format_only=True needs outfile_prefix, the place to write to')
        if not format_only and seg_prefix is None:
            raise UserError('CityscapesInstanceMetric: set seg_prefix to the folder of the split, such as gtFine/val')
        self.seg_prefix = seg_prefix
        self.classwise = classwise
        self.format_only = format_only
        self.outfile_prefix = outfile_prefix
        self._args = copy.copy(official.args)
        self._args.quiet = True
        official.setInstanceLabels(self._args)

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Write the masks of a batch and match them with the ground truth."""
        for sample in data_samples:
            path = sample['img_path']
            if 'masks' not in sample.get('pred_instances', ()):
                raise UserError(
                    f'{path}: the model predicts no masks, which the AP of Cityscapes needs: score another metric'
                )
            stem = osp.splitext(osp.basename(path))[0]
            with tempfile.TemporaryDirectory() as scratch:
                folder = self.outfile_prefix or scratch
                predicted = self._write(folder, stem, sample['pred_instances'])
                matches = None if self.format_only else self._match(path, stem, predicted)
            self.results.append((stem, matches))

    def _write(self, folder: str, stem: str, instances: dict) -> dict[str, dict]:
        """Write one image's files; returns what the evaluator's ``readPredInfo`` would read from them."""
        os.makedirs(folder, exist_ok=True)
        masks = instances['masks'].cpu().numpy().astype(np.uint8)
        scores = instances['mask_scores' if 'mask_scores' in instances else 'scores'].tolist()
        predicted, lines = {}, []
        for k, (mask, label, score) in enumerate(zip(masks, instances['labels'].tolist(), scores, strict=True)):
            name = self.dataset_meta['classes'][label]
            if name not in self._args.instLabels:
                raise UserError(f'{stem}: {name!r} is no instance class of Cityscapes: {self._args.instLabels}')
            png = f'{stem}_{k}.png'
            if not cv2.imwrite(osp.join(folder, png), 255 * mask):
                raise UserError(f'{osp.join(folder, png)} cannot be written: check space and permissions')
            lines.append(f'{png} {name2label[name].id} {score}\n')
            predicted[osp.join(folder, png)] = {'labelID': name2label[name].id, 'conf': score}
        with open(osp.join(folder, f'{stem}_pred.txt'), 'w') as file:
            file.writelines(lines)
        return predicted

    def _match(self, path: str, stem: str, predicted: dict[str, dict]) -> dict[str, dict]:
        """One image's entry in the evaluator's ``matches``."""
        image_id = stem.removesuffix(_IMAGE)
        truth = osp.join(self.seg_prefix, image_id.split('_')[0], image_id + _INSTANCES)
        if not osp.isfile(truth):
            raise UserError(f'{truth}, the ground truth of {path}, does not exist: check `seg_prefix`, or make it with '
                            'tools/dataset_converters/cityscapes.py')  # fmt: skip
        with Image.open(truth) as png:
            ids = np.array(png)
        for mask in list(predicted)[:1]:
            with Image.open(mask) as png:
                if png.size != ids.shape[::-1]:
                    raise UserError(f'{truth} is {ids.shape[::-1]}, the masks of {path} are {png.size}: not its image')
        (instances,) = instances2dict([truth]).values()
        instances = official.filterGtInstances(instances, self._args)
        matched, scored = official.assignGt2Preds(instances, ids, predicted, self._args)
        return {'groundTruth': matched, 'prediction': scored}

    def compute_metrics(self, results: list[tuple[str, dict | None]]) -> dict[str, float]:
        """Average over all images; called on the first rank.

        Returns:
            ``AP`` (mean over IoU .5 to .95) and ``AP50``, with ``classwise`` also ``AP_<class>``, in percent; NaN where
            there is no ground truth; empty with ``format_only``.
        """
        logger = MMLogger.get_current_instance()
        if self.outfile_prefix:
            logger.info(f'Results of {len(results)} images written to {self.outfile_prefix}')
        if self.format_only:
            return {}
        averages = official.computeAverages(official.evaluateMatches(dict(results), self._args), self._args)
        lines = [f'{name:<12}{100 * ap["ap"]:8.2f}{100 * ap["ap50%"]:8.2f}' for name, ap in averages['classes'].items()]
        logger.info('\n'.join(['', f'{"":<12}{"AP":>8}{"AP50":>8}', *lines]))
        scores = {'AP': averages['allAp'], 'AP50': averages['allAp50%']}
        if self.classwise:
            scores |= {f'AP_{name}': ap['ap'] for name, ap in averages['classes'].items()}
        return {name: 100 * float(score) for name, score in scores.items()}
