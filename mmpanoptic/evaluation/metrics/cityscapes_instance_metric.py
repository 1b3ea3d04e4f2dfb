"""Cityscapes' instance AP."""

import copy
import os.path as osp
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling as official  # noqa: N813
import mmdet.evaluation  # noqa: F401  (restores np.in1d in numpy >= 2.4, which the official evaluator calls)
from cityscapesscripts.evaluation.instances2dict import instances2dict
from cityscapesscripts.helpers.labels import name2label
from mmengine.dist import is_main_process
from mmengine.evaluator import BaseMetric

from mmpanoptic.evaluation.tables import ClassScores
from mmpanoptic.formats.images import image_size, load_label_map
from mmpanoptic.registry import METRICS
from mmpanoptic.utils import UserError, check_replaceable, require_folder

from .arguments import check_gathering
from .written_results import after_scores, instance_files, write_folder

_IMAGE, _INSTANCES = '_leftImg8bit', '_gtFine_instanceIds.png'
_MAKER = 'CityscapesInstanceMetric'


@METRICS.register_module()
class CityscapesInstanceMetric(BaseMetric):
    """AP and AP50 (in percent) of instance masks by cityscapesscripts' own evaluator.

    This class writes the evaluator's files and calls its functions. Each process matches the images that it has
    predicted, and only numbers are gathered. The ground truth is read from the PNGs of the dataset, on a local disk.
    Unlike COCO's AP, this AP takes any number of instances per image, ignores those of fewer than 100 pixels, and
    leaves out classes without ground truth.

    mmdet's ``CityScapesMetric`` gives the same AP. But it derives the ground truth's path from the image's path and
    ignores ``seg_prefix``, deletes ``results`` in ``outfile_prefix`` when it is constructed, and matches in one
    process.

    https://github.com/mcordts/cityscapesScripts (``evalInstanceLevelSemanticLabeling``)

    Args:
        seg_prefix: Folder of the split with ``<city>/<image id>_gtFine_instanceIds.png``;
            ``tools/dataset_converters/cityscapes.py`` makes missing ones. Needed unless ``format_only``.
        classwise: Whether to give the AP of every class as well, and keep it as ``class_scores``.
        format_only: Write the files of ``outfile_prefix`` and score nothing, as for the test server.
        outfile_prefix: Folder for the server's files: ``<image>_pred.txt`` and one PNG per instance. It is written when
            all images are scored, and replaces the folder of an earlier run. If writing fails, the error is logged and
            kept in ``unwritten``.
        kwargs: See :class:`mmengine.evaluator.BaseMetric`.

    Raises:
        UserError: If an image has no masks or no ground truth, their sizes differ, a class is none of Cityscapes', or
            ``outfile_prefix`` holds anything else than an earlier result.
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
        check_gathering(self, kwargs)
        if format_only and outfile_prefix is None:
            raise UserError('CityscapesInstanceMetric: format_only=True needs outfile_prefix, the place to write to')
        if not format_only and seg_prefix is None:
            raise UserError('CityscapesInstanceMetric: set seg_prefix to the folder of the split, such as gtFine/val')
        self.seg_prefix = seg_prefix
        self.classwise = classwise
        self.format_only = format_only
        self.outfile_prefix = outfile_prefix
        self.class_scores: ClassScores | None = None
        self._args = copy.copy(official.args)
        self._args.quiet = True
        official.setInstanceLabels(self._args)

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Match the masks of a batch with the ground truth, and keep the files for the first rank to write."""
        if self.outfile_prefix and not self.results and is_main_process():
            check_replaceable(self.outfile_prefix, _MAKER, 'outfile_prefix')
            require_folder(osp.dirname(osp.abspath(self.outfile_prefix)), 'outfile_prefix')
        for sample in data_samples:
            path = sample['img_path']
            if 'masks' not in sample.get('pred_instances', ()):
                raise UserError(
                    f'{path}: the model predicts no masks, which the AP of Cityscapes needs: score another metric'
                )
            stem = osp.splitext(osp.basename(path))[0]
            files, predicted = self._files(stem, sample['pred_instances'])
            matches = None if self.format_only else self._match(path, stem, files, predicted)
            self.results.append((path, matches, files if self.outfile_prefix else {}))

    def _files(self, stem: str, instances: dict) -> tuple[dict[str, bytes], dict[str, dict]]:
        """One image's files by name, and entries of the evaluator's ``readPredInfo`` by the names of the PNGs."""
        names = [self.dataset_meta['classes'][label] for label in instances['labels'].tolist()]
        if other := [name for name in names if name not in self._args.instLabels]:
            raise UserError(f'{stem}: {other[0]!r} is no instance class of Cityscapes: {self._args.instLabels}')
        ids = [name2label[name].id for name in names]
        files = instance_files(stem, instances, ids, f'{stem}_pred.txt')
        scores = instances['mask_scores' if 'mask_scores' in instances else 'scores'].tolist()
        pairs = zip(files, ids, scores, strict=False)  # the last file is the listing
        return files, {png: {'labelID': number, 'conf': score} for png, number, score in pairs}

    def _match(self, path: str, stem: str, files: dict[str, bytes], predicted: dict[str, dict]) -> dict[str, dict]:
        """One image's entry in the evaluator's ``matches``; the evaluator reads masks from files."""
        assert self.seg_prefix is not None  # it is needed unless format_only
        image_id = stem.removesuffix(_IMAGE)
        truth = osp.join(self.seg_prefix, image_id.split('_')[0], image_id + _INSTANCES)
        if not osp.isfile(truth):
            raise UserError(f'{truth}, the ground truth of {path}, does not exist: check `seg_prefix`, or make it with '
                            'tools/dataset_converters/cityscapes.py')  # fmt: skip
        mask = next(iter(predicted), None)
        size = image_size(truth) if mask is None else image_size(files[mask], mask)
        ids = load_label_map(Path(truth), size, f'the masks of {path} are')
        (instances,) = instances2dict([truth]).values()
        instances = official.filterGtInstances(instances, self._args)
        with tempfile.TemporaryDirectory() as scratch:
            for name in predicted:
                Path(scratch, name).write_bytes(files[name])
            predicted = {osp.join(scratch, name): prediction for name, prediction in predicted.items()}
            matched, scored = official.assignGt2Preds(instances, ids, predicted, self._args)
        return {'groundTruth': matched, 'prediction': scored}

    def compute_metrics(self, results: list[tuple[str, dict | None, dict[str, bytes]]]) -> dict[str, float]:
        """Average over all images; called on the first rank.

        Returns:
            ``AP`` (mean over IoU .5 to .95) and ``AP50``, with ``classwise`` also ``AP_<class>``, in percent; NaN where
            there is no ground truth; empty with ``format_only``.
        """
        if self.format_only:
            assert self.outfile_prefix is not None  # format_only needs it
            write_folder([files for _, _, files in results], self.outfile_prefix, _MAKER)
            return {}
        _check_names(path for path, _, _ in results)
        matches = dict(enumerate(of_image for _, of_image, _ in results))  # keys are unique even if an image repeats
        averages = official.computeAverages(official.evaluateMatches(matches, self._args), self._args)
        scores = {'AP': averages['allAp'], 'AP50': averages['allAp50%']}
        if self.classwise:
            scores |= {f'AP_{name}': ap['ap'] for name, ap in averages['classes'].items()}
            of_classes = averages['classes'].items()
            self.class_scores = ClassScores(
                {
                    f'Cityscapes {header}': {name: 100 * float(ap[key]) for name, ap in of_classes}
                    for header, key in (('AP', 'ap'), ('AP50', 'ap50%'))
                },
                {f'Cityscapes {name}': 100 * float(scores[name]) for name in ('AP', 'AP50')},
            )
        if self.outfile_prefix:
            with after_scores(self):
                write_folder([files for _, _, files in results], self.outfile_prefix, _MAKER)
        return {name: 100 * float(score) for name, score in scores.items()}


def _check_names(paths: Iterable[str]) -> None:
    """Refuse images of the same name, which would share their ground truth."""
    path_of: dict[str, str] = {}
    for path in paths:
        if (other := path_of.setdefault(osp.basename(path), path)) != path:
            raise UserError(
                f'{other} and {path} have the same name, by which their ground truth is found in seg_prefix: test each '
                'dataset by itself'
            )
