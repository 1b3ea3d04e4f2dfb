"""PanopticMetric: the official bits in any order and way of arrival, its files, its errors."""

import json
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.panoptic_samples import samples_of
from helpers.pq_cases import CATEGORIES, random_case, write_files
from helpers.second_device import SecondDevice, to_gpu
from mmdet.structures import DetDataSample
from mmengine.evaluator import Evaluator
from mmengine.structures import PixelData

from mmpanoptic.evaluation.metrics import PanopticMetric
from mmpanoptic.evaluation.panoptic_files import evaluate_files
from mmpanoptic.formats.panoptic_png import decode_panoptic_png
from mmpanoptic.structures import INSTANCE_OFFSET
from mmpanoptic.utils import DatasetError, UserError

GROUPS = {'All': '', 'Things': '_th', 'Stuff': '_st'}


def score(metric: PanopticMetric, meta: dict, samples: list[DetDataSample]) -> dict[str, float]:
    """As the test loop does it."""
    metric.dataset_meta = meta
    evaluator = Evaluator([metric])
    for sample in samples:
        evaluator.process([sample])
    return evaluator.evaluate(len(samples))


def expected_scores(average: dict) -> dict[str, float]:
    """What the metric must return, from averages by group."""
    return {
        f'panoptic/{key.upper()}{suffix}': 100 * average[group][key]
        for group, suffix in GROUPS.items()
        for key in ('pq', 'sq', 'rq')
    }


@pytest.fixture(scope='module')
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path, Path]:
    """Ground truth and predictions of random images; an image whose prediction is empty among them."""
    cases = [random_case(seed) for seed in range(40)]
    assert any(not case.pred_segments for case in cases)
    return write_files(tmp_path_factory.mktemp('pq'), cases)


@pytest.fixture(scope='module')
def meta_and_samples(files) -> tuple[dict, list[DetDataSample]]:
    return samples_of(*files)


def without_ground_truth(samples: list[DetDataSample]) -> Iterator[DetDataSample]:
    for sample in samples:
        copy = sample.new()
        del copy.gt_panoptic_seg
        yield copy


@pytest.mark.parametrize('name', ['random_a', 'random_b', 'coco'])
def test_official_results_to_the_last_bit_in_any_order(name, shared_data):
    folder = shared_data / 'pq_fixtures' / name
    gt_dir = shared_data / 'coco_panoptic_sample' / 'panoptic' if name == 'coco' else folder / 'gt'
    meta, samples = samples_of(folder / 'gt.json', gt_dir, folder / 'pred.json', folder / 'pred')
    official = json.loads((folder / 'expected.json').read_text())['average']
    expected = expected_scores(
        {group: {k: float.fromhex(v) for k, v in values.items() if k != 'n'} for group, values in official.items()}
    )
    for seed in range(1 if name == 'coco' else 3):
        random.Random(seed).shuffle(samples)
        assert score(PanopticMetric(), meta, samples) == expected


def test_order_matters_without_sorting(meta_and_samples, monkeypatch):
    """The test above has power: sums in the order of arrival differ in their last bits."""
    meta, samples = meta_and_samples
    monkeypatch.setattr('mmpanoptic.evaluation.metrics.panoptic_metric.sorted', lambda it, key: list(it), raising=False)
    scores = set()
    for seed in range(10):
        scores.add(score(PanopticMetric(), meta, random.Random(seed).sample(samples, len(samples)))['panoptic/SQ'])
    assert len(scores) > 1


def test_annotation_file_instead_of_samples(files, meta_and_samples):
    gt_json, gt_dir, pred_json, pred_dir = files
    meta, samples = meta_and_samples
    expected = expected_scores(evaluate_files(gt_json, gt_dir, pred_json, pred_dir))
    assert 0 < expected['panoptic/PQ'] < 100
    assert score(PanopticMetric(), meta, samples) == expected
    bare = list(without_ground_truth(samples))
    random.Random(0).shuffle(bare)
    assert score(PanopticMetric(ann_file=str(gt_json)), meta, bare) == expected  # gt/ beside gt.json
    assert score(PanopticMetric(ann_file=str(gt_json), seg_prefix=str(gt_dir)), meta, bare) == expected


@pytest.mark.parametrize('kind', ['sample', 'ann_file', 'no list', 'files'])
def test_maps_on_a_gpu_are_scored_alike(kind, files, meta_and_samples, tmp_path):
    """They stay there, unless they are to be written or the segments are not known."""
    meta, samples = meta_and_samples
    samples = [sample.new() for sample in samples]
    for sample in samples if kind != 'no list' else ():
        sem_seg = sample.pred_panoptic_seg.sem_seg
        segments = [dict(id=id, label=id % INSTANCE_OFFSET) for id in sem_seg.unique().tolist()]
        segments = [segment for segment in segments if segment['id'] != len(CATEGORIES)]
        sample.pred_panoptic_seg = PixelData(sem_seg=sem_seg, metainfo=dict(segments_info=segments))
    options = {'ann_file': dict(ann_file=str(files[0])), 'files': dict(outfile_prefix=str(tmp_path / 'results'))}
    expected = score(PanopticMetric(), meta, samples)
    if kind == 'ann_file':
        samples = list(without_ground_truth(samples))
    with SecondDevice() as gpu:
        assert score(PanopticMetric(**options.get(kind, {})), meta, [to_gpu(sample) for sample in samples]) == expected
    counts = gpu.uploads / len(samples), gpu.downloads / len(samples)
    assert counts == {'sample': (0, 1), 'ann_file': (1, 1), 'no list': (0, 2), 'files': (0, 2)}[kind]


def test_samples_of_padding_do_not_count(meta_and_samples):
    """Ranks are padded to the same length; what exceeds the dataset's size at the end is dropped."""
    meta, samples = meta_and_samples
    metric = PanopticMetric()
    metric.dataset_meta = meta
    evaluator = Evaluator([metric])
    evaluator.process([*samples, samples[0]])
    assert evaluator.evaluate(len(samples)) == score(PanopticMetric(), meta, samples)


def test_scores_of_classes(meta_and_samples):
    meta, samples = meta_and_samples
    short, long = PanopticMetric(), PanopticMetric(classwise=True)
    scores = score(short, meta, samples)
    assert score(long, meta, samples) == scores and short.class_scores is None
    kept = long.class_scores
    assert list(kept.columns['PQ']) == [category['name'] for category in CATEGORIES]
    assert kept.means == {key: scores[f'panoptic/{key}'] for key in ('PQ', 'SQ', 'RQ')}
    occurring = [name for name in kept.columns['TP'] if sum(kept.columns[key][name] for key in ('TP', 'FP', 'FN'))]
    assert np.mean([kept.columns['PQ'][name] for name in occurring]) == pytest.approx(kept.means['PQ'])
    assert 'never there' not in occurring and all(isinstance(n, int) for n in kept.columns['FN'].values())


def test_files_are_scored_alike(files, meta_and_samples, tmp_path):
    gt_json, gt_dir, _, _ = files
    meta, samples = meta_and_samples
    prefix = tmp_path / 'new' / 'results'
    scores = score(PanopticMetric(outfile_prefix=str(prefix)), meta, samples)
    written = prefix.parent / 'results.panoptic.json', prefix.parent / 'results.panoptic'
    assert sorted(prefix.parent.glob('[!.]*')) == sorted(written), 'nothing unfinished is left'
    assert expected_scores(evaluate_files(gt_json, gt_dir, *written)) == scores
    annotation = next(a for a in json.loads(written[0].read_text())['annotations'] if a['segments_info'])
    ids = decode_panoptic_png((written[1] / annotation['file_name']).read_bytes(), 'png')
    for segment in annotation['segments_info']:
        rows, columns = np.nonzero(ids == segment['id'])
        x, y, w, h = segment['bbox']
        assert segment['area'] == len(rows)
        assert (x, y, x + w, y + h) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def test_format_only(meta_and_samples, tmp_path):
    meta, samples = meta_and_samples
    metric = PanopticMetric(format_only=True, outfile_prefix=str(tmp_path / 'results'))
    assert score(metric, meta, list(without_ground_truth(samples))) == {}
    assert len(json.loads((tmp_path / 'results.panoptic.json').read_text())['annotations']) == len(samples)
    with pytest.raises(UserError, match='outfile_prefix'):
        PanopticMetric(format_only=True)


def test_files_of_an_earlier_run_are_replaced(meta_and_samples, tmp_path):
    meta, samples = meta_and_samples
    prefix = str(tmp_path / 'results')
    score(PanopticMetric(format_only=True, outfile_prefix=prefix), meta, samples)
    killed = PanopticMetric(format_only=True, outfile_prefix=prefix)
    killed.dataset_meta = meta
    Evaluator([killed]).process([samples[5]])
    score(PanopticMetric(format_only=True, outfile_prefix=prefix), meta, samples[:2])
    assert len(json.loads((tmp_path / 'results.panoptic.json').read_text())['annotations']) == 2
    assert len(list((tmp_path / 'results.panoptic').glob('*.png'))) == 2
    assert len(list(tmp_path.glob('[!.]*'))) == 2


def test_images_of_one_name_are_scored_and_leave_nothing(meta_and_samples, tmp_path):
    meta, samples = meta_and_samples
    twin = samples[1].new()
    twin.set_metainfo(dict(img_path='other/' + Path(samples[0].img_path).name))
    metric = PanopticMetric(outfile_prefix=str(tmp_path / 'results'))
    assert score(metric, meta, [samples[0], twin]) == score(PanopticMetric(), meta, [samples[0], twin])
    assert 'PNG 0001.png occurs twice' in str(metric.unwritten)
    assert list(tmp_path.glob('[!.]*')) == []


def test_foreign_files_are_refused_at_the_first_image(meta_and_samples, tmp_path):
    meta, samples = meta_and_samples
    (tmp_path / 'results.panoptic').mkdir()
    (tmp_path / 'results.panoptic' / 'mine.png').touch()
    metric = PanopticMetric(outfile_prefix=str(tmp_path / 'results'))
    metric.dataset_meta = meta
    with pytest.raises(UserError, match=r'results\.panoptic is not empty'):
        metric.process({}, [dict(samples[0].to_dict())])


def test_errors(files, meta_and_samples):
    meta, samples = meta_and_samples
    with pytest.raises(UserError, match=r'0001\.jpg has no ground truth.*LoadPanopticAnnotations'):
        score(PanopticMetric(), meta, list(without_ground_truth(samples[:1])))
    no_map = samples[0].new()
    del no_map.pred_panoptic_seg
    with pytest.raises(UserError, match=r'0001\.jpg: the model gives no panoptic map'):
        score(PanopticMetric(), meta, [no_map])
    stranger = samples[0].new()
    stranger.set_metainfo(dict(img_id='elsewhere'))
    with pytest.raises(UserError, match=r"gt\.json has no annotation of image 'elsewhere'"):
        score(PanopticMetric(ann_file=str(files[0])), meta, [stranger])
    small = samples[0].new()
    small.pred_panoptic_seg = PixelData(sem_seg=samples[0].pred_panoptic_seg.sem_seg[:, ::2])
    with pytest.raises(UserError, match='original image size'):
        score(PanopticMetric(), meta, [small])
    with pytest.raises(DatasetError, match='does not exist'):
        PanopticMetric(ann_file='nowhere.json')
    swapped = meta | {'classes': (*meta['classes'][1::-1], *meta['classes'][2:])}
    with pytest.raises(UserError, match=r"gt\.json: class 0 is '.*', and '.*' in the tested dataset"):
        score(PanopticMetric(ann_file=str(files[0])), swapped, list(without_ground_truth(samples[:1])))


def test_ids_that_repeat_between_datasets(files, meta_and_samples):
    """A file of ground truth would score both images by the segments of one; ground truth in samples does not."""
    meta, samples = meta_and_samples
    twin = samples[1].new()
    twin.set_metainfo(dict(img_id=samples[0].img_id, img_path='other/1.jpg'))
    with pytest.raises(UserError, match=r'0001\.jpg and other/1\.jpg have the image id'):
        score(PanopticMetric(ann_file=str(files[0])), meta, [samples[0], twin])
    assert score(PanopticMetric(), meta, [samples[0], twin]) == score(PanopticMetric(), meta, samples[:2])
    assert PanopticMetric(ann_file=str(files[0])).finds_by_id and not PanopticMetric().finds_by_id
