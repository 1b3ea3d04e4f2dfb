"""The report at the end of a test: what it is made of, and what it refuses before the test runs."""

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from helpers.panoptic_samples import samples_of
from helpers.pq_cases import random_case, write_files
from mmengine.evaluator import Evaluator

from mmpanoptic.datasets import CocoPanopticDataset
from mmpanoptic.evaluation.metrics import InstanceMetric, KeptPanoptic, PanopticMetric
from mmpanoptic.evaluation.panoptic_files import evaluate_files
from mmpanoptic.report import ReportOfTest
from mmpanoptic.utils import UserError

NUMBER = 6


class Files:
    """Panoptic files of a few images, which lie in folders of their own, and a test on them."""

    def __init__(self, root: Path) -> None:
        (root / 'files').mkdir()
        made = write_files(root / 'files', [random_case(seed) for seed in range(NUMBER)])
        self.gt_json, self.gt_dir, self.pred_json, self.pred_dir = made
        self.images = root / 'images'
        self.meta, self.samples = samples_of(*made)
        for place, sample in enumerate(self.samples):
            path = self.images / str(place % 2) / Path(sample.img_path).name
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), np.zeros((*sample.pred_panoptic_seg.shape, 3), np.uint8))
            sample.set_metainfo(dict(img_path=str(path), sample_idx=place))

    def dataset(self, **changes) -> CocoPanopticDataset:
        """What the loop has; images in folders are those of a subclass, as Cityscapes' is."""
        one = CocoPanopticDataset.__new__(CocoPanopticDataset)
        one.ann_file, one.backend_args = str(self.gt_json), None
        one.data_prefix = dict(img=str(self.images), seg=str(self.gt_dir))
        for key, value in changes.items():
            setattr(one, key, value)
        return one

    def loop(self, *metrics, dataset=None) -> SimpleNamespace:
        evaluator = Evaluator([*metrics, KeptPanoptic()])
        evaluator.dataset_meta = self.meta
        return SimpleNamespace(
            evaluator=evaluator, dataloader=SimpleNamespace(dataset=self.dataset() if dataset is None else dataset)
        )

    def test(self, folder: Path, samples=None, metric=None) -> dict[str, float]:
        """Score samples and write the report of that; returns the scores."""
        loop, samples = self.loop(metric or PanopticMetric()), self.samples if samples is None else samples
        with ReportOfTest(str(folder), loop).written('model'):
            loop.evaluator.process(data_samples=samples, data_batch={})
            return loop.evaluator.evaluate(len(samples))


@pytest.fixture
def files(tmp_path, monkeypatch) -> Files:
    monkeypatch.setitem(sys.modules, 'plotly', SimpleNamespace())
    monkeypatch.setitem(sys.modules, 'plotly.offline', SimpleNamespace(get_plotlyjs=lambda: 'window.Plotly = {};'))
    return Files(tmp_path)


def contents(folder: Path) -> dict:
    """The numbers of a page."""
    text = (folder / 'report.html').read_text(encoding='utf-8')
    start = text.index('>', text.index('id="contents"')) + 1
    return json.loads(text[start : text.index('</script>', start)])


def check(files: Files, folder: Path, scores: dict[str, float]) -> dict:
    """The page has the scores of the test, and so have the files, for whoever scores them again."""
    page = contents(folder)
    assert page['names'] == ['model']
    assert page['runs'][0]['scores']['All']['pq'] == scores['panoptic/PQ'] > 0
    written = (folder / 'truth.json', files.gt_dir, folder / 'panoptic.json', folder / 'panoptic')
    assert 100 * evaluate_files(*written)['Stuff']['pq'] == scores['panoptic/PQ_st']
    assert {path.name for path in folder.iterdir()} == {
        'report.html', 'truth.json', 'panoptic.json', 'panoptic', '.mmpanoptic',
    }  # fmt: skip
    return page


def test_the_page_has_the_scores_of_the_test(files, tmp_path, capsys):
    folder = tmp_path / 'new' / 'report'
    scores = files.test(folder)
    page = check(files, folder, scores)
    assert [image['name'] for image in page['images']] == [f'{k % 2}/{k + 1:04d}.jpg' for k in range(NUMBER)]
    assert all('picture' in image for image in page['images'])
    assert 100 * evaluate_files(files.gt_json, *_from(files))['All']['pq'] == scores['panoptic/PQ']
    assert f'Report written to {folder}/report.html' in capsys.readouterr().out


def _from(files: Files) -> tuple[Path, Path, Path]:
    return files.gt_dir, files.pred_json, files.pred_dir


def test_again_on_fewer_images(files, tmp_path):
    """The ground truth in the folder is that of the images that were tested; an earlier report is replaced."""
    files.test(tmp_path / 'report')
    scores = files.test(tmp_path / 'report', files.samples[3:5])
    page = check(files, tmp_path / 'report', scores)
    assert [image['name'] for image in page['images']] == ['1/0004.jpg', '0/0005.jpg']
    assert len(page['images']) == len(list((tmp_path / 'report' / 'panoptic').iterdir())) == 2


@pytest.mark.parametrize('prefix', ['one folder', ''])
def test_an_image_is_found_from_any_folder(files, tmp_path, prefix):
    """Names are relative to the dataset's folder of images, or to the current one, wherever the image is."""
    (tmp_path / prefix).mkdir(exist_ok=True)
    files.images = tmp_path / prefix if prefix else ''
    scores = files.test(tmp_path / 'report', files.samples[:1])
    page = check(files, tmp_path / 'report', scores)
    assert page['images'][0]['name'].endswith('../images/0/0001.jpg' if prefix else 'images/0/0001.jpg')


def test_ground_truth_of_the_metric_with_other_numbers(files, tmp_path):
    """It may number the classes in another way than the dataset does, and that is what predictions are written in."""
    data = json.loads(files.gt_json.read_text())
    for one in data['categories']:
        one['id'] += 500
    for segment in (segment for annotation in data['annotations'] for segment in annotation['segments_info']):
        segment['category_id'] += 500
    other = tmp_path / 'other.json'
    other.write_text(json.dumps(data))
    shutil.copytree(files.gt_dir, tmp_path / 'other')
    metric = PanopticMetric(ann_file=str(other))
    scores = files.test(tmp_path / 'report', metric=metric)
    check(files, tmp_path / 'report', scores)


def test_a_folder_of_others_is_refused_before_the_test(files, tmp_path):
    (tmp_path / 'report').mkdir()
    (tmp_path / 'report' / 'mine.txt').write_text('mine')
    with pytest.raises(UserError, match=r'--report: .*report is not empty'):
        files.test(tmp_path / 'report', samples=[None])
    assert [path.name for path in (tmp_path / 'report').iterdir()] == ['mine.txt']


def test_a_test_that_fails_leaves_the_earlier_report(files, tmp_path):
    files.test(tmp_path / 'report')
    before = (tmp_path / 'report' / 'report.html').read_bytes()
    with pytest.raises(KeyError):
        files.test(tmp_path / 'report', samples=[{}])
    assert (tmp_path / 'report' / 'report.html').read_bytes() == before
    assert not list(tmp_path.glob('.report.*.part'))


@pytest.mark.parametrize(
    ('case', 'message'),
    [
        ('no PQ', '--report shows where PQ is lost, and PQ is not scored: add PQ to --eval'),
        ('nothing scored', 'add PQ to --eval'),
        ('several', r'--report is for one dataset, and several are tested \(.*gt.json, a.json\): test them one by one'),
        ('no panoptic truth', 'SimpleNamespace has no panoptic ground truth: test on a panoptic dataset'),
        ('elsewhere', 's3://bucket/gt.json is not on a disk of this machine: copy the data here'),
        ('inside', r'--report \S+: \S+/report/shown lies in this folder'),
        ('prefix inside', r'--report \S+: \S+/report/x lies in this folder'),
    ],
)
def test_what_is_refused(files, tmp_path, case, message):
    metric, dataset, others = PanopticMetric(), files.dataset(), ()
    if case == 'no PQ':
        metric = InstanceMetric(metric='bbox')
    elif case == 'nothing scored':
        metric = PanopticMetric(format_only=True, outfile_prefix=str(tmp_path / 'x'))
    elif case == 'several':
        dataset = SimpleNamespace(datasets=[dataset, files.dataset(ann_file='a.json')])
    elif case == 'no panoptic truth':
        dataset = SimpleNamespace(ann_file='a.json')
    elif case == 'elsewhere':
        dataset = files.dataset(ann_file='s3://bucket/gt.json')
    elif case == 'inside':
        others = (None, str(tmp_path / 'report' / 'shown'))
    else:
        metric = PanopticMetric(outfile_prefix=str(tmp_path / 'report' / 'x'))
    with pytest.raises(UserError, match=message):
        ReportOfTest(str(tmp_path / 'report'), files.loop(metric, dataset=dataset), others)
