"""Scoring of files on the command line: the official numbers, whatever the files lie in, and errors of one line."""

import json
import zipfile
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.pq_cases import random_case, write_files
from helpers.pq_judges import JUDGES
from helpers.repo import load_tool, one_error_of, run_main

from mmpanoptic.engine import cli
from mmpanoptic.structures import id_to_rgb

TOOL = load_tool('analysis_tools/pq')
GROUPS = ('All', 'Things', 'Stuff')


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run the tool in this process; returns what it writes and what it prints."""

    def call(*args):
        run_main(TOOL, monkeypatch, *args, '--out', tmp_path / 'out' / 'scores.json')
        return json.loads((tmp_path / 'out' / 'scores.json').read_text()), capsys.readouterr().out

    return call


@pytest.fixture
def error_of(run, monkeypatch, capsys):
    """The one line that it ends with."""

    def call(*args):
        with pytest.raises(SystemExit) as ending:
            cli.run(lambda: run_main(TOOL, monkeypatch, *args))
        assert ending.value.code == 1
        return one_error_of(capsys.readouterr().err)

    return call


@pytest.fixture
def files(tmp_path):
    root = tmp_path / 'files'
    root.mkdir()
    return write_files(root, [random_case(seed) for seed in range(12)])


def zipped(path: Path, *sources: Path) -> Path:
    """Files and folders in a zip, as COCO's server takes predictions."""
    with zipfile.ZipFile(path, 'w') as file:
        for source in sources:
            for one in [source] if source.is_file() else sorted(source.iterdir()):
                file.write(one, one.relative_to(source.parent))
    return path


@pytest.mark.parametrize('name', ['random_a', 'random_b', 'coco'])
def test_official_results_to_the_last_bit(name, run, shared_data, tmp_path):
    folder = shared_data / 'pq_fixtures' / name
    gt_dir = shared_data / 'coco_panoptic_sample' / 'panoptic' if name == 'coco' else folder / 'gt'
    predictions = zipped(tmp_path / 'results.zip', folder / 'pred.json', folder / 'pred')
    result, _ = run(folder / 'gt.json', gt_dir, predictions)
    expected = json.loads((folder / 'expected.json').read_text())
    bits = {
        c: {'iou_sum': r['iou_sum'].hex(), **{key: r[key] for key in ('tp', 'fp', 'fn')}}
        for c, r in result['scores']['per_class'].items()
    }
    assert bits == expected['per_category']
    for group, values in expected['average'].items():
        assert {k: v if k == 'n' else v.hex() for k, v in result['scores'][group].items()} == values


@pytest.mark.parametrize('judge', JUDGES)
def test_judges(judge, run, tmp_path):
    files = write_files(tmp_path, [random_case(seed, several_crowds=False) for seed in range(100, 140)])
    result, _ = run(*files)
    per_class, averages = JUDGES[judge](*files)
    for category_id, (tp, fp, fn, iou_sum) in per_class.items():
        mine = result['scores']['per_class'][str(category_id)]
        assert (mine['tp'], mine['fp'], mine['fn']) == (tp, fp, fn)
        assert mine['iou_sum'] == pytest.approx(iou_sum, rel=1e-12)
        lost = result['account']['per_class'][str(category_id)]
        assert (sum(lost['fn'].values()), sum(lost['fp'].values())) == (fn, fp)
    for group, pq in averages.items():
        assert result['scores'][group]['pq'] == pytest.approx(pq, abs=1e-12)
        assert sum(result['account'][group]['points'].values()) == pytest.approx(100 - 100 * pq, abs=1e-9)


def test_cityscapes_files(cityscapes_root, run, tmp_path):
    """Their ids are names, and their JSON is COCO's; in the predictions every other segment is missing."""
    gt_json = cityscapes_root / 'gtFine' / 'cityscapes_panoptic_val.json'
    gt_dir, pred_dir = gt_json.with_suffix(''), tmp_path / 'pred'
    pred_dir.mkdir()
    data = json.loads(gt_json.read_text())
    for annotation in data['annotations']:
        rgb = cv2.imread(str(gt_dir / annotation['file_name']))[..., ::-1].astype(int)
        ids = rgb @ [1, 256, 65536]
        annotation['segments_info'] = [s for s in annotation['segments_info'] if not s['iscrowd']][::2]
        ids[~np.isin(ids, [s['id'] for s in annotation['segments_info']])] = 0
        assert cv2.imwrite(str(pred_dir / annotation['file_name']), id_to_rgb(ids)[..., ::-1])
    pred_json = tmp_path / 'pred.json'
    pred_json.write_text(json.dumps({'annotations': data['annotations']}))
    result, _ = run(gt_json, gt_dir, pred_json)
    per_class, averages = JUDGES['cityscapes'](gt_json, gt_dir, pred_json, pred_dir)
    for category_id, values in per_class.items():
        mine = result['scores']['per_class'][str(category_id)]
        assert tuple(mine[key] for key in ('tp', 'fp', 'fn', 'iou_sum')) == values
    assert {group: result['scores'][group]['pq'] for group in averages} == averages
    assert 0.2 < averages['All'] < 0.9


def test_whatever_they_lie_in(run, files, tmp_path):
    gt_json, gt_dir, pred_json, pred_dir = files
    plain, printed = run(*files)
    in_zips = zipped(tmp_path / 'gt.zip', gt_json, gt_dir), zipped(tmp_path / 'pred.zip', pred_json, pred_dir)
    assert run(in_zips[0], in_zips[0], in_zips[1])[0] == plain
    assert run(gt_json, zipped(tmp_path / 'pngs.zip', gt_dir), pred_json, '--workers', 2)[0] == plain
    assert f' {100 * plain["scores"]["All"]["pq"]:.2f} ' in printed
    assert f'{100 - 100 * plain["scores"]["All"]["pq"]:.2f}' in printed


def test_against(run, files, tmp_path):
    """The first predictions against a ground truth as prediction."""
    gt_json, gt_dir, *_ = files
    perfect = json.loads(gt_json.read_text())
    for annotation in perfect['annotations']:
        for segment in annotation['segments_info']:
            segment.pop('iscrowd')
    (tmp_path / 'perfect.json').write_text(json.dumps(perfect))
    other = tmp_path / 'perfect.json', gt_dir
    result, printed = run(*files, '--against', *other, '--bootstrap', 50, '--classwise')
    alone, _ = run(gt_json, gt_dir, *other, '--bootstrap', 50)
    assert result['against']['scores'] == alone['scores']
    assert result['against']['intervals'] == alone['intervals']
    assert result['difference']['All']['pq']['interval'][1] < 0
    assert result['difference']['All']['pq']['better'] == 0
    gain = result['scores']['All']['pq'] - alone['scores']['All']['pq']
    assert f'{100 * gain:+.2f}' in printed
    assert all(category['name'] in printed for category in result['categories'])
    low, high = result['intervals']['All']['pq']
    assert low < result['scores']['All']['pq'] < high
    assert result['bootstrap'] == {'number': 50, 'seed': 0, 'confidence': 0.95}


def test_segments(run, files):
    """Every segment by itself: they add up to what is lost, and the ids are those of the files."""
    result, _ = run(*files, '--segments')
    rows = result['segments']
    assert sum(row['points'] for row in rows) == pytest.approx(100 - 100 * result['scores']['All']['pq'], abs=1e-9)
    for kind, side in (('missed', 'fn'), ('extra', 'fp')):
        numbers = Counter(row['cause'] for row in rows if row['kind'] == kind)
        counted = result['account']['All'][side]
        assert counted == {cause: numbers[cause] for cause in counted}
    listed = {}
    for path, key in ((files[0], 'gt_id'), (files[2], 'pred_id')):
        for annotation in json.loads(path.read_text())['annotations']:
            for segment in annotation['segments_info']:
                listed[annotation['image_id'], key, segment['id']] = segment['category_id']
    partners = 0
    for row in rows:
        own, other = ('pred_id', 'gt_id') if row['kind'] == 'extra' else ('gt_id', 'pred_id')
        assert listed[row['image_id'], own, row[own]] == row['category_id']
        if row[other] is not None:
            partners += 1
            right_class = listed[row['image_id'], other, row[other]] == row['category_id']
            assert right_class != (row['cause'] is not None and ' as ' in row['cause'])
    assert partners > sum(row['kind'] == 'match' for row in rows) > 5


def test_notes(run, files):
    _, _, pred_json, _ = files
    data = json.loads(pred_json.read_text())
    data['annotations'].append({'image_id': 99, 'file_name': 'x.png', 'segments_info': []})
    pred_json.write_text(json.dumps(data))
    result, printed = run(*files)
    assert 'pred.json: 1 predictions are of images that' in printed
    assert len(result['notes']) == 1


def edit(path, change):
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def of_first(data):
    return data['annotations'][0]['segments_info']


def other_size(path):
    assert cv2.imwrite(str(path), cv2.imread(str(path))[:-1])


@pytest.mark.parametrize(
    ('spoil', 'words'),
    [
        (lambda f: edit(f[2], lambda d: d['annotations'].pop(0)), 'pred.json has no prediction for image 12'),
        (lambda f: (f[3] / '0012.png').unlink(), "pred/0012.png' cannot be read (No such file or directory): "),
        (lambda f: (f[1] / '0012.png').unlink(), "gt/0012.png' cannot be read (No such file or directory): "),
        (lambda f: other_size(f[3] / '0012.png'), 'pred/0012.png is 23x32 (height x width), its image 24x32'),
        (lambda f: edit(f[2], lambda d: of_first(d).pop()), 'segments_info lacks: add it there'),
        (lambda f: edit(f[2], lambda d: of_first(d).append({'id': 77, 'category_id': 7})), 'lists segment id 77 that'),
        (lambda f: edit(f[2], lambda d: of_first(d)[0].update(category_id=0)), 'has category_id 0, which the ground'),
        (lambda f: edit(f[0], lambda d: d.pop('annotations')), 'has no annotations: score against a file that has'),
    ],
)
def test_what_does_not_fit(spoil, words, files, error_of):
    spoil(files)
    assert words in error_of(*files)


def test_mixed_up_categories(files, error_of, run, tmp_path):
    """The ground truth as prediction, with its categories moved by one."""
    gt_json, gt_dir, *_ = files
    data = json.loads(gt_json.read_text())
    ids = [category['id'] for category in data['categories']][:5]
    for annotation in data['annotations']:
        for segment in annotation['segments_info']:
            segment['category_id'] = ids[(ids.index(segment['category_id']) + 1) % 5]
    (tmp_path / 'moved.json').write_text(json.dumps(data))
    line = error_of(gt_json, gt_dir, tmp_path / 'moved.json', gt_dir)
    assert 'moved.json: its category ids seem to be of another numbering: ' in line
    assert '0 have the right class' in line
    assert line.endswith('pass trust_categories (--trust-categories)')
    result, _ = run(gt_json, gt_dir, tmp_path / 'moved.json', gt_dir, '--trust-categories')
    assert result['scores']['All']['pq'] == 0


@pytest.mark.parametrize(
    ('option', 'words'),
    [
        (('--bootstrap', 3), '--bootstrap 3: an interval needs at least 10 draws'),
        (('--bootstrap', 10, '--confidence', 95), '--confidence 95.0: give a share'),
        (('--bootstrap', 10, '--seed', -1), '--seed -1: give a number'),
        (('--out', '.'), '--out . is a folder'),
        (('--segments',), '--segments: say where'),
    ],
)
def test_options(option, words, files, error_of):
    assert words in error_of(*files, *option)
