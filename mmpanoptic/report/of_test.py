"""The report at the end of a test, made from the scored predictions, so that no image is predicted twice."""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.runner import TestLoop

from mmpanoptic.datasets import CocoPanopticDataset
from mmpanoptic.datasets.wrappers import inner_datasets
from mmpanoptic.evaluation.file_scores import Bootstrap, score_files
from mmpanoptic.evaluation.metrics import KeptPanoptic, PanopticMetric
from mmpanoptic.formats.file_sources import read_json_of
from mmpanoptic.formats.panoptic_json import parse_categories
from mmpanoptic.formats.panoptic_writer import distinct_png_names, fill_panoptic
from mmpanoptic.utils import UserError, is_local, tracked_map, whole_folder

from .build import build_report

PAGE, TRUTH, PREDICTIONS = 'report.html', 'truth.json', 'panoptic.json'


class ReportOfTest:
    """The folder of ``tools/test.py --report``: the page, and the files that it was made from.

    The folder holds:

    - ``report.html``, the page;
    - ``panoptic.json`` and ``panoptic/``, the predictions in COCO's panoptic format;
    - ``truth.json``, the ground truth of the tested images; its PNGs are not copied.

    Args:
        folder: The folder; an earlier report in it is replaced.
        loop: Loop of the test before it runs, with a :class:`KeptPanoptic` among its metrics.
        others: Other files and folders that the test writes.

    Raises:
        UserError: If PQ is not scored, several datasets are tested, the dataset has no panoptic ground truth on this
            machine's disks, or one of ``others`` lies in the folder.
    """

    def __init__(self, folder: str, loop: TestLoop, others: tuple[str | None, ...] = ()) -> None:
        self.folder = folder
        metrics = loop.evaluator.metrics
        self._kept = next(metric for metric in metrics if isinstance(metric, KeptPanoptic))
        dataset = loop.dataloader.dataset
        self._ground_truth = path, _ = _ground_truth(metrics, dataset)
        self._images = next(inner_datasets(dataset)).data_prefix.get('img') or '.'
        categories = parse_categories(read_json_of(path).get('categories'), path)  # labels as in this JSON
        self._kept.dataset_meta = {**self._kept.dataset_meta, 'categories': categories}
        place = Path(os.path.realpath(folder))
        for path in filter(None, [*others, *(getattr(metric, 'outfile_prefix', None) for metric in metrics)]):
            if place in (other := Path(os.path.realpath(path)), *other.parents):
                raise UserError(
                    f'--report {folder}: {path} lies in this folder, which is replaced as a whole: name another one'
                )

    @contextlib.contextmanager
    def written(self, name: str) -> Iterator[None]:
        """Context in which the test runs; on exit, the first process writes the folder.

        Args:
            name: Name of the predictions in the report.

        Raises:
            UserError: If the folder holds anything besides an earlier report, or cannot be written.
        """
        if not is_main_process():
            yield
            return
        with whole_folder(self.folder, 'tools/test.py --report', '--report') as made:
            yield
            self._fill(made, name)
        print(f'Report written to {os.path.join(self.folder, PAGE)}')

    def _fill(self, made: Path, name: str) -> None:
        """Write all files of the folder."""
        truth, folder = read_json_of(self._ground_truth[0]), self._ground_truth[1]
        (made / TRUTH).write_text(json.dumps(_tested_part(truth, self._kept.paths, self._images)))
        pngs = made / 'panoptic'
        pngs.mkdir()
        content = fill_panoptic(
            pngs, distinct_png_names(self._kept.items), truth['categories'], made / PREDICTIONS, pngs
        )
        (made / PREDICTIONS).write_text(json.dumps(content))
        ground_truth, predictions = (made / TRUTH, folder), [(made / PREDICTIONS, pngs)]
        mapper = partial(tracked_map, workers=1, description='Counting')
        # Categories are those of the ground truth: poor scores are no sign of another numbering.
        result = score_files(
            *ground_truth, predictions, Bootstrap(), trust_categories=True, mapper=mapper, segments=True
        )
        page = build_report(result, ground_truth, predictions, [name], self._images, inside=False)
        (made / PAGE).write_text(page, encoding='utf-8')


def _ground_truth(metrics: list, dataset: Any) -> tuple[str, str]:
    """JSON and folder of PNGs of the ground truth for PQ."""
    metric = next((metric for metric in metrics if isinstance(metric, PanopticMetric)), None)
    if metric is None or metric.format_only:
        raise UserError('--report shows where PQ is lost, and PQ is not scored: add PQ to --eval')
    datasets = list(inner_datasets(dataset))
    if len(datasets) > 1:
        files = ', '.join(str(inner.ann_file) for inner in datasets)
        raise UserError(f'--report is for one dataset, and several are tested ({files}): test them one by one')
    found = metric.ground_truth
    if found is None:
        if not isinstance(datasets[0], CocoPanopticDataset):
            raise UserError(
                f'--report: {type(datasets[0]).__name__} has no panoptic ground truth: test on a panoptic dataset, or '
                'set ann_file of PanopticMetric'
            )
        found = datasets[0].ann_file, datasets[0].data_prefix['seg']
    for path in (*found, datasets[0].data_prefix.get('img') or '.'):
        if not is_local(path, getattr(datasets[0], 'backend_args', None)):
            raise UserError(f'--report: {path} is not on a disk of this machine: copy the data here')
    return found


def _tested_part(truth: Mapping[str, Any], paths: Mapping[int | str, str], folder: str) -> dict:
    """The ground truth of the tested images; ``file_name`` is made relative to ``folder``."""
    images = [
        dict(image, file_name=os.path.relpath(paths[image['id']], folder))
        for image in truth['images']
        if image['id'] in paths
    ]
    annotations = [annotation for annotation in truth['annotations'] if annotation['image_id'] in paths]
    return dict(truth, images=images, annotations=annotations)
