"""Ground truth of real images, formatted as a prediction, written, and scored: a PQ of 100 in every class."""

import json

import numpy as np
import pytest
import torch
from helpers.pq_judges import JUDGES
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData

from mmpanoptic.datasets import CocoPanopticDataset
from mmpanoptic.evaluation.metrics import PanopticMetric
from mmpanoptic.evaluation.panoptic_files import evaluate_files
from mmpanoptic.structures import INSTANCE_OFFSET, ids_to_indices

NUM_IMAGES = 100
PIPELINE = [
    {'type': 'LoadImageFromFile'},
    {'type': 'Resize', 'scale': (64, 64), 'keep_ratio': True},
    {'type': 'LoadPanopticAnnotations'},
    {'type': 'PackPanopticInputs', 'meta_keys': ('img_id', 'img_path', 'ori_shape')},
]


def as_prediction(truth, void):
    """The map in mmdet's encoding; crowds are left void, since no model predicts them as such."""
    values, instances = [void], 0
    for segment in truth.segments_info:
        instances += segment['is_thing'] and not segment['iscrowd']
        value = segment['label'] + INSTANCE_OFFSET * instances * segment['is_thing']
        values.append(void if segment['iscrowd'] else value)
    indices = ids_to_indices(truth.sem_seg[0].numpy(), [segment['id'] for segment in truth.segments_info])
    return torch.from_numpy(np.array(values)[indices])[None]


@pytest.fixture(scope='module')
def scored(shared_data, tmp_path_factory):
    """The metric's numbers, and the files: ground truth and what the metric wrote."""
    init_default_scope('mmpanoptic')
    root, out = shared_data / 'coco_panoptic_sample', tmp_path_factory.mktemp('round_trip')
    data = json.loads((root / 'panoptic.json').read_text())
    data['annotations'] = data['annotations'][:NUM_IMAGES]
    used = {annotation['image_id'] for annotation in data['annotations']}
    data['images'] = [image for image in data['images'] if image['id'] in used]
    (out / 'gt.json').write_text(json.dumps(data))
    dataset = CocoPanopticDataset(
        ann_file=str(out / 'gt.json'),
        data_prefix={'img': str(root / 'images'), 'seg': str(root / 'panoptic')},
        pipeline=PIPELINE,
        test_mode=True,
    )
    metric = PanopticMetric(outfile_prefix=str(out / 'result'))
    metric.dataset_meta = dataset.metainfo
    for index in np.random.default_rng(0).permutation(len(dataset)):
        sample = dataset[int(index)]['data_samples']
        void = len(dataset.metainfo['classes'])
        sample.pred_panoptic_seg = PixelData(sem_seg=as_prediction(sample.gt_panoptic_seg, void))
        metric.process({}, [sample.to_dict()])
    scores = metric.evaluate(len(dataset))
    return scores, (out / 'gt.json', root / 'panoptic', out / 'result.panoptic.json', out / 'result.panoptic')


def test_metric(scored):
    assert set(scored[0].values()) == {100.0}
    assert len(scored[0]) == 9


def test_written_files(scored):
    files = scored[1]
    result = evaluate_files(*files)
    truth = json.loads(files[0].read_text())
    segments = [s for annotation in truth['annotations'] for s in annotation['segments_info'] if not s['iscrowd']]
    present = {segment['category_id'] for segment in segments}
    assert len(present) > 70
    assert {c for c, r in result['per_class'].items() if r['pq'] == 1.0} == present
    assert {c for c, r in result['per_class'].items() if r['tp'] + r['fp'] + r['fn']} == present
    assert sum(r['tp'] for r in result['per_class'].values()) == len(segments)
    assert result['All']['pq'] == result['Things']['pq'] == result['Stuff']['pq'] == 1.0
    predicted = json.loads(files[2].read_text())['annotations']
    assert [a['image_id'] for a in predicted] == [a['image_id'] for a in truth['annotations']]


@pytest.mark.parametrize('judge', JUDGES)
def test_judges_accept_the_written_files(judge, scored):
    per_class, averages = JUDGES[judge](*scored[1])
    ours = evaluate_files(*scored[1])['per_class']
    for category_id, (tp, fp, fn, iou_sum) in per_class.items():
        assert (tp, fp, fn, iou_sum) == tuple(ours[category_id][k] for k in ('tp', 'fp', 'fn', 'iou_sum'))
    assert set(averages.values()) == {1.0}
