"""What scoring files costs, against the official way and hotcoco on the same files in one run, and what it keeps."""

import json
import os

import numpy as np
import pytest
import torch
from helpers.pq_judges import judge_cityscapes, judge_hotcoco
from helpers.process_memory import needs_linux, printed_alone
from helpers.timing import cpu_seconds

from mmpanoptic.evaluation.file_scores import scored
from mmpanoptic.evaluation.panoptic_files import count_files, evaluate_files, scores_of
from mmpanoptic.evaluation.panoptic_quality import match_counts
from mmpanoptic.formats import panoptic_png
from mmpanoptic.formats.panoptic_png import decode_panoptic_png, encode_panoptic_png

pytestmark = pytest.mark.slow
NUM_IMAGES = 40
MANY = int(os.environ.get('PQ_IMAGES', 500))


@pytest.fixture(scope='module')
def files(shared_data, tmp_path_factory):
    """Real ground truth, and it as predictions: moved, some segments dropped, some of another class."""
    sample, root = shared_data / 'coco_panoptic_sample', tmp_path_factory.mktemp('cost')
    gt = json.loads((sample / 'panoptic.json').read_text())
    gt['annotations'] = gt['annotations'][:NUM_IMAGES]
    kept = {annotation['image_id'] for annotation in gt['annotations']}
    gt['images'] = [image for image in gt['images'] if image['id'] in kept]
    ids_of_categories = [category['id'] for category in gt['categories']]
    rng, predictions = np.random.default_rng(0), []
    (root / 'pred').mkdir()
    for annotation in gt['annotations']:
        path = sample / 'panoptic' / annotation['file_name']
        ids, segments = np.roll(decode_panoptic_png(path.read_bytes(), str(path)), (2, 3), (0, 1)), []
        for segment in annotation['segments_info']:
            if segment['iscrowd'] or rng.random() < 0.15:
                ids[ids == segment['id']] = 0
                continue
            category_id = segment['category_id'] if rng.random() < 0.85 else int(rng.choice(ids_of_categories))
            segments.append({'id': segment['id'], 'category_id': category_id})
        (root / 'pred' / annotation['file_name']).write_bytes(encode_panoptic_png(ids))
        predictions.append(
            {'image_id': annotation['image_id'], 'file_name': annotation['file_name'], 'segments_info': segments}
        )
    (root / 'gt.json').write_text(json.dumps(gt))
    (root / 'pred.json').write_text(json.dumps({'annotations': predictions}))
    return root / 'gt.json', sample / 'panoptic', root / 'pred.json', root / 'pred'


@pytest.mark.timing
@pytest.mark.usefixtures('one_thread', 'kept_memory')
def test_against_hotcoco_and_the_official_way(files, monkeypatch):
    """hotcoco is written in Rust and checks little; the time of OpenCV's decoder alone is above all of hotcoco's."""
    seconds = {}
    for _ in range(3):
        for name, judge in (('ours', evaluate_files), ('hotcoco', judge_hotcoco), ('official', judge_cityscapes)):
            seconds.setdefault(name, []).append(cpu_seconds(judge, *files))
        monkeypatch.setattr(panoptic_png, 'fast_png', None)
        seconds.setdefault('OpenCV', []).append(cpu_seconds(evaluate_files, *files))
        monkeypatch.undo()
    best = {name: min(values) for name, values in seconds.items()}
    for name, value in best.items():
        print(f'{name:9}{1000 * value / NUM_IMAGES:6.2f} ms an image, ours is {best["ours"] / value:.2f} of it')
    assert best['ours'] <= (0.5 if panoptic_png.fast_png is None else 0.3) * best['official']
    if panoptic_png.fast_png is not None:
        assert best['ours'] <= 2 * best['hotcoco']


@pytest.mark.timing
def test_the_account_costs_little(files):
    counted = count_files(*files[:2], [files[2:]])

    def score():
        scores_of(counted.sets[0], counted.categories, match_counts(counted.sets[0]))

    def score_and_account():
        scored(counted.sets[0], counted.categories)

    counting = cpu_seconds(count_files, *files[:2], [files[2:]])
    with_account, without = (min(cpu_seconds(f) for _ in range(3)) for f in (score_and_account, score))
    ratio = (counting + with_account) / (counting + without)
    print(f'with the account and all oracles {ratio:.3f} of the time of scoring')
    assert ratio <= 1.5


@needs_linux
def test_memory_of_many_images(files, tmp_path):
    """Of the whole tool, torch included; other libraries that scores do not need are not imported."""
    paths = {name: tmp_path / name for name in ('gt.json', 'pred.json', 'gt', 'pred')}
    gt, pred = (json.loads(path.read_text()) for path in (files[0], files[2]))
    sizes = {image['id']: image for image in gt['images']}
    many = {'images': [], 'annotations': [], 'categories': gt['categories']}, {'annotations': []}
    for number in range(MANY):
        annotations = [data['annotations'][number % NUM_IMAGES] for data in (gt, pred)]
        many[0]['images'].append(sizes[annotations[0]['image_id']] | {'id': number})
        for data, annotation in zip(many, annotations, strict=True):
            data['annotations'].append(annotation | {'image_id': number})
    for name, data in zip(('gt.json', 'pred.json'), many, strict=True):
        paths[name].write_text(json.dumps(data))
    arguments = [
        paths['gt.json'],
        files[1],
        paths['pred.json'],
        files[3],
        '--bootstrap',
        1000,
        '--out',
        tmp_path / 'out',
    ]
    code = f"""
import sys
from helpers.process_memory import peak_bytes
from mmpanoptic.__main__ import main
sys.argv = {['mmpanoptic', 'pq', *map(str, arguments)]}
main()
assert not {{'mmdet', 'mmcv', 'scipy', 'matplotlib'}} & set(sys.modules)
print(peak_bytes())
"""
    peak = printed_alone(code)
    print(f'{peak / 1e6:.0f} MB for {MANY} images')
    assert json.loads((tmp_path / 'out').read_text())['images'] == MANY
    if torch.version.cuda is None:  # what its libraries take is no matter of this tool
        assert peak < (400e6 if MANY <= 500 else 500e6)
