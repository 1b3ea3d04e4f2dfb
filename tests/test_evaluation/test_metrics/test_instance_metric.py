"""Box and mask AP, and mIoU: ground truth as prediction, a slow reference, errors."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.coco_crowds import crowd_of
from mmdet.structures import DetDataSample
from mmengine.evaluator import Evaluator
from mmengine.structures import InstanceData, PixelData

from mmpanoptic.datasets import CocoPanopticDataset
from mmpanoptic.evaluation.metrics import InstanceMetric, PanopticIoUMetric
from mmpanoptic.formats.panoptic_png import decode_panoptic_png
from mmpanoptic.structures import INSTANCE_OFFSET
from mmpanoptic.utils import UserError

AP = ('bbox_mAP', 'segm_mAP')


@pytest.fixture(scope='module')
def dataset(tiny_shapes: Path) -> CocoPanopticDataset:
    """The training images with the overlapping masks of the instances JSON."""
    return CocoPanopticDataset(
        data_root=f'{tiny_shapes}/',
        ann_file='annotations/panoptic_train.json',
        inst_ann_file='annotations/instances_train.json',
        data_prefix=dict(img='train/'),
        test_mode=True,
        pipeline=[],
    )


def perfect(info: dict, place: int, void: int) -> DetDataSample:
    """A sample whose prediction is its ground truth, crowds left out."""
    ids = decode_panoptic_png(Path(info['seg_map_path']).read_bytes(), 'png')
    size = dict(ori_shape=ids.shape, img_id=info['img_id'], img_path=info['img_path'])
    sample = DetDataSample(metainfo=size)
    sample.gt_panoptic_seg = PixelData(sem_seg=torch.from_numpy(ids)[None])
    sample.gt_panoptic_seg.set_metainfo(dict(segments_info=info['segments_info'], sample_idx=place))
    predicted = np.full(ids.shape, void)
    for k, segment in enumerate(info['segments_info'], 1):
        predicted[ids == segment['id']] = segment['label'] + INSTANCE_OFFSET * k * segment['is_thing']
    sample.pred_panoptic_seg = PixelData(sem_seg=torch.from_numpy(predicted)[None])
    things = [s for s in info['segments_info'] if s['is_thing'] and not s['iscrowd']]
    boxes = torch.tensor([s['bbox'] for s in things], dtype=torch.float).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    sample.pred_instances = InstanceData(
        bboxes=boxes,
        scores=torch.linspace(1, 0.5, len(things)),
        labels=torch.tensor([s['label'] for s in things], dtype=torch.long),
        masks=torch.from_numpy(np.stack([ids == s['id'] for s in things])),
    )
    return sample


@pytest.fixture
def samples(dataset) -> list[DetDataSample]:
    assert any(s['iscrowd'] for i in range(len(dataset)) for s in dataset.get_data_info(i)['segments_info'])
    return [perfect(dataset.get_data_info(i), i, len(dataset.metainfo['classes'])) for i in range(len(dataset))]


def score(metric, meta: dict, samples: list[DetDataSample]) -> dict[str, float]:
    metric.dataset_meta = meta
    evaluator = Evaluator([metric])
    evaluator.process(samples)
    return {key.split('/')[1]: value for key, value in evaluator.evaluate(len(samples)).items()}


def test_ground_truth_as_prediction(dataset, samples):
    scores = score(InstanceMetric(metric=['bbox', 'segm']), dataset.metainfo, samples)
    assert [scores[key] for key in AP] == [1.0, 1.0]


def test_small_instances_are_sorted_by_the_area_of_their_masks(dataset, samples):
    """A thin instance may have a large box: only the mask's area says whether it is small."""
    areas = [s['area'] for i in range(len(dataset)) for s in dataset.get_data_info(i)['segments_info'] if s['is_thing']]
    assert max(areas) < 32**2
    scores = score(InstanceMetric(metric='segm'), dataset.metainfo, samples)
    assert (scores['segm_mAP_s'], scores['segm_mAP_m']) == (1.0, -1.0)


def test_crowds_are_neither_missed_nor_false(dataset, samples):
    """A prediction on a crowd is ignored."""
    place, crowd = next(
        (i, s) for i in range(len(dataset)) for s in dataset.get_data_info(i)['segments_info'] if s['iscrowd']
    )
    found = samples[place].pred_instances
    x, y, w, h = crowd['bbox']
    on_crowd = InstanceData(
        bboxes=torch.tensor([[x, y, x + w, y + h]], dtype=torch.float),
        scores=torch.ones(1),
        labels=torch.tensor([crowd['label']]),
        masks=samples[place].gt_panoptic_seg.sem_seg == crowd['id'],
    )
    samples[place].pred_instances = InstanceData.cat([on_crowd, found])
    scores = score(InstanceMetric(metric=['bbox', 'segm']), dataset.metainfo, samples)
    assert [scores[key] for key in AP] == [1.0, 1.0]


def test_instances_json_as_ground_truth(dataset, samples, tiny_shapes):
    """Its masks overlap: the visible parts alone do not reach 1, the masks themselves do."""
    from pycocotools import mask as rle

    path = tiny_shapes / 'annotations/instances_train.json'
    metric = dict(metric=['bbox', 'segm'], ann_file=str(path))
    assert 0.5 < score(InstanceMetric(**metric), dataset.metainfo, samples)['segm_mAP'] < 1.0
    for i, sample in enumerate(samples):
        wanted = [one for one in dataset.get_data_info(i)['instances'] if not one['ignore_flag']]
        sample.pred_instances = InstanceData(
            bboxes=torch.tensor([one['bbox'] for one in wanted], dtype=torch.float),
            scores=torch.ones(len(wanted)),
            labels=torch.tensor([one['bbox_label'] for one in wanted]),
            masks=torch.from_numpy(np.stack([rle.decode(one['mask']) for one in wanted])).bool(),
        )
    scores = score(InstanceMetric(**metric), dataset.metainfo, samples)
    assert [scores[key] for key in AP] == [1.0, 1.0]


def test_empty_predictions(dataset, samples):
    for sample in samples[:-1]:
        sample.pred_instances = sample.pred_instances[:0]
    some = score(InstanceMetric(metric=['bbox', 'segm']), dataset.metainfo, samples)
    assert 0 < some['bbox_mAP'] == some['segm_mAP'] < 0.7
    samples[-1].pred_instances = samples[-1].pred_instances[:0]
    none = score(InstanceMetric(metric=['bbox', 'segm']), dataset.metainfo, samples)
    assert [none[key] for key in AP] == [0.0, 0.0]


def test_instance_errors(dataset, samples, tiny_shapes, tmp_path):
    data = json.loads((tiny_shapes / 'annotations/instances_train.json').read_text())
    path = tmp_path / 'instances.json'
    path.write_text(json.dumps(data | {'categories': data['categories'][::-1]}))
    with pytest.raises(UserError, match='in their order'):
        score(InstanceMetric(metric='bbox', ann_file=str(path)), dataset.metainfo, samples)
    last = data['categories'][-1]['id']
    fewer = {'categories': data['categories'][:-1]}
    path.write_text(json.dumps(data | fewer))
    with pytest.raises(UserError, match=r'annotation \d+ of image \d+ has category_id \d+, which is none of its'):
        InstanceMetric(metric='bbox', ann_file=str(path))
    fewer['annotations'] = [a for a in data['annotations'] if a['category_id'] != last]
    path.write_text(json.dumps(data | fewer))
    with pytest.raises(UserError, match='6 against 7'):
        score(InstanceMetric(metric='bbox', ann_file=str(path)), dataset.metainfo, samples)
    path.write_text(json.dumps(data | {'images': data['images'][1:]}))
    with pytest.raises(UserError, match='lacks image 1 '):
        score(InstanceMetric(metric='bbox', ann_file=str(path)), dataset.metainfo, samples)

    del samples[0].pred_instances.masks
    assert score(InstanceMetric(metric='bbox'), dataset.metainfo, samples[1:])
    with pytest.raises(UserError, match=r'no masks of instances, so segm cannot be scored: leave it out'):
        score(InstanceMetric(metric=['bbox', 'segm']), dataset.metainfo, samples)
    del samples[1].gt_panoptic_seg
    with pytest.raises(UserError, match=r'000002\.png: no gt_panoptic_seg'):
        score(InstanceMetric(metric='bbox'), dataset.metainfo, samples)
    del samples[0].pred_instances
    with pytest.raises(UserError, match='predicts no instances'):
        score(InstanceMetric(metric='bbox'), dataset.metainfo, samples)


def slow_iou(samples: list[DetDataSample], num_classes: int) -> dict[str, float]:
    """Semantic scores pixel by pixel."""
    pairs = []
    for sample in samples:
        label_of = {s['id']: s['label'] for s in sample.gt_panoptic_seg.segments_info}
        truth = sample.gt_panoptic_seg.sem_seg.flatten().tolist()
        predicted = sample.pred_panoptic_seg.sem_seg.flatten().tolist()
        pairs += [(label_of[t], p % INSTANCE_OFFSET) for t, p in zip(truth, predicted, strict=True) if t]
    ious, recalls = [], []
    for label in range(num_classes):
        right = sum(t == p == label for t, p in pairs)
        union = sum(label in pair for pair in pairs)
        truth = sum(t == label for t, _ in pairs)
        ious += [right / union] if union else []
        recalls += [right / truth] if truth else []
    accuracy = sum(t == p for t, p in pairs) / len(pairs)
    return dict(mIoU=100 * np.mean(ious), mAcc=100 * np.mean(recalls), aAcc=100 * accuracy)


def test_iou_of_ground_truth(dataset, samples):
    assert score(PanopticIoUMetric(), dataset.metainfo, samples) == dict(mIoU=100, mAcc=100, aAcc=100)


def test_iou_against_reference(dataset, samples):
    void = len(dataset.metainfo['classes'])
    rng = np.random.default_rng(0)
    samples = samples[:2]  # some classes do not occur
    for sample in samples:
        predicted = sample.pred_panoptic_seg.sem_seg
        noise = torch.from_numpy(rng.integers(0, void - 1, predicted.shape))
        predicted = torch.where(torch.from_numpy(rng.random(predicted.shape) < 0.3), noise, predicted)
        predicted[:, :20] = void
        sample.pred_panoptic_seg = PixelData(sem_seg=predicted)
    scores = score(PanopticIoUMetric(), dataset.metainfo, samples)
    assert scores == pytest.approx(slow_iou(samples, void), abs=1e-9)
    assert 5 < scores['mIoU'] < scores['mAcc'] < 90


def test_iou_of_nothing(dataset, samples):
    void = len(dataset.metainfo['classes'])
    for sample in samples:
        sample.pred_panoptic_seg = PixelData(sem_seg=torch.full_like(sample.pred_panoptic_seg.sem_seg, void))
    assert score(PanopticIoUMetric(), dataset.metainfo, samples) == dict(mIoU=0, mAcc=0, aAcc=0)
    del samples[0].pred_panoptic_seg
    with pytest.raises(UserError, match=r'000001\.png: no pred_panoptic_seg'):
        score(PanopticIoUMetric(), dataset.metainfo, samples)


def test_files_come_after_the_scores(dataset, samples, tmp_path):
    expected = score(InstanceMetric(metric='bbox'), dataset.metainfo, samples)
    metric = InstanceMetric(metric='bbox', outfile_prefix=str(tmp_path / 'new' / 'x'))
    assert score(metric, dataset.metainfo, samples) == expected and metric.unwritten is None
    names = {path.name for path in (tmp_path / 'new').glob('[!.]*')}
    assert names == {'x.bbox.json', 'x.segm.json', 'x.gt.json'}
    (tmp_path / 'file').touch()
    metric = InstanceMetric(metric='bbox', outfile_prefix=str(tmp_path / 'file' / 'x'))
    assert score(metric, dataset.metainfo, samples) == expected
    assert 'file cannot be made' in str(metric.unwritten)


@pytest.mark.parametrize(
    ('numbers', 'missed', 'right'),
    [([150], 0, 1.0), ([100], 0, 1.0), ([300, 20], 0, 1.0), ([90, 90], 0, 1.0), ([400], 200, 0.505), ([80], 40, 0.505)],
)
@pytest.mark.parametrize('nums', [(100, 300, 1000), (300, 500, 1000)])
def test_objects_beyond_the_limit_of_coco(numbers, missed, right, nums, tmp_path):
    """Of 400 objects, half are found: precision 1 up to recall .5, which is 51 of 101 points."""
    scores = crowd_of(numbers, tmp_path, missed, proposal_nums=nums)
    assert scores['coco/bbox_mAP'] == scores['coco/bbox_mAP_50'] == right


def test_more_objects_than_are_scored(tmp_path):
    with pytest.raises(
        UserError, match=r'has 1200 objects .* 1000 detections .*: set proposal_nums=\(100, 300, 1200\)'
    ):
        crowd_of([1200], tmp_path)
    assert crowd_of([1200], tmp_path, proposal_nums=(100, 300, 1200))['coco/bbox_mAP'] == 1.0


def test_ids_that_repeat_between_datasets(dataset, samples):
    """Of two datasets, as of a ConcatDataset; pycocotools would score one image by the objects of both."""
    for same in (samples[:1] * 2, [*samples, samples[-1]]):
        with pytest.raises(
            UserError, match=r'^2 tested images have the id \S+, and AP tells images apart by their ids'
        ):
            score(InstanceMetric(metric='bbox'), dataset.metainfo, same)


def test_images_that_are_not_tested_are_not_missed(dataset, samples, tiny_shapes):
    """As with ``indices``: the file has more images than are tested."""
    path = str(tiny_shapes / 'annotations/instances_train.json')
    some = score(InstanceMetric(metric='bbox'), dataset.metainfo, samples[:3])
    assert score(InstanceMetric(metric='bbox', ann_file=path), dataset.metainfo, samples[:3])['bbox_mAP'] >= 0.9
    assert some['bbox_mAP'] == 1.0


def test_several_files_of_ground_truth(dataset, samples, tiny_shapes, tmp_path):
    """Of two datasets, which number their annotations alike; none of them says iscrowd."""
    data = json.loads((tiny_shapes / 'annotations/instances_train.json').read_text())
    data['annotations'] = [a for a in data['annotations'] if not a.get('iscrowd')]
    for one in data['annotations']:
        one.pop('iscrowd', None)
    paths = [tmp_path / name for name in ('all.json', 'first.json', 'rest.json')]
    paths[0].write_text(json.dumps(data))
    for path, kept in ((paths[1], data['images'][:3]), (paths[2], data['images'][3:])):
        ids = {image['id'] for image in kept}
        annotations = [dict(a) for a in data['annotations'] if a['image_id'] in ids]
        for number, one in enumerate(annotations, 1):
            one['id'] = number
        path.write_text(json.dumps(data | dict(images=kept, annotations=annotations)))
    whole, *parts = map(str, paths)
    expected = score(InstanceMetric(metric='bbox', ann_file=whole), dataset.metainfo, samples)
    assert score(InstanceMetric(metric='bbox', ann_file=parts), dataset.metainfo, samples) == expected
    assert 0.5 < expected['bbox_mAP'] <= 1.0
    with pytest.raises(UserError, match=r'image id \S+ occurs twice'):
        InstanceMetric(metric='bbox', ann_file=[whole, parts[0]])
    data['categories'].reverse()
    paths[2].write_text(json.dumps(data))
    with pytest.raises(UserError, match='have other `categories`'):
        InstanceMetric(metric='bbox', ann_file=parts)
