"""tools/analysis_tools/report.py: one whole page, with the numbers of the scores and the segments of the maps."""

import base64
import json
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from helpers.pq_cases import random_case, write_files
from helpers.repo import ROOT, load_tool, run_main
from pycocotools import mask as coco_masks

from mmpanoptic.evaluation.file_scores import score_files
from mmpanoptic.structures import rgb_to_id
from mmpanoptic.utils import DatasetError, UserError

TOOL = load_tool('analysis_tools/report')
SCRIPTS = sorted((ROOT / 'mmpanoptic/report').glob('*.js'))
NUMBER = 12


class Page(HTMLParser):
    """Scripts by id, and what the page would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts, self.fetched, self.ids, self.open = {}, [], [], None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        attrs = dict(attrs)
        self.ids += [attrs['id']] if 'id' in attrs else []
        self.fetched += [value for key, value in attrs.items() if key in ('src', 'href')]
        self.fetched += [tag] if tag == 'link' else []
        self.open = (attrs.get('id'), len(self.scripts)) if tag == 'script' else None

    def handle_endtag(self, tag: str) -> None:
        self.open = None

    def handle_data(self, text: str) -> None:
        if self.open is not None:
            self.scripts[self.open[0] or self.open] = self.scripts.get(self.open[0] or self.open, '') + text


@pytest.fixture
def files(tmp_path) -> list[Path]:
    """Panoptic files, and images beside them; one class has a name that would end a script."""
    root = tmp_path / 'files'
    root.mkdir()
    made = write_files(root, [random_case(seed) for seed in range(NUMBER)])
    data = json.loads(made[0].read_text())
    data['categories'][0]['name'] = '</script><b>sky'
    made[0].write_text(json.dumps(data))
    (root / 'images').mkdir()
    for image in data['images']:
        pixels = np.random.default_rng(image['id']).integers(0, 256, (image['height'], image['width'], 3), np.uint8)
        cv2.imwrite(str(root / 'images' / image['file_name']), pixels)
    return [*made, root / 'images']


@pytest.fixture
def report(files, tmp_path, monkeypatch, capsys):
    """Run the tool, with a plotly that draws nothing; returns the page and what is printed."""
    monkeypatch.setitem(sys.modules, 'plotly', SimpleNamespace())
    monkeypatch.setitem(sys.modules, 'plotly.offline', SimpleNamespace(get_plotlyjs=lambda: 'window.Plotly = {};'))

    def call(*args: object) -> tuple[Page, str]:
        *made, images = files
        run_main(TOOL, monkeypatch, *made, '--images', images, '-o', tmp_path / 'report.html', '--bootstrap', 20, *args)
        return Page((tmp_path / 'report.html').read_text(encoding='utf-8')), capsys.readouterr().out

    return call


def decoded(url: str, kind: str) -> np.ndarray:
    """An RGB image of a data URL."""
    head, data = url.split(',')
    assert head == f'data:image/{kind};base64'
    return cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def test_one_page_with_all_numbers(report, files):
    page, text = report('--pictures', 5)
    assert page.fetched == [] and len(page.ids) == len(set(page.ids))
    contents = json.loads(page.scripts['contents'])
    scores = score_files(*files[:2], [files[2:4]])['scores']
    assert contents['runs'][0]['scores']['All']['pq'] == 100 * scores['All']['pq']
    assert f'PQ {100 * scores["All"]["pq"]:.2f}, ' in text
    assert contents['categories'][0]['name'] == '</script><b>sky' and len(contents['images']) == NUMBER
    shown = [image['picture'] for image in contents['images'] if 'picture' in image]
    assert shown == list(range(5)) and 'picture-4' in page.scripts and 'picture-5' not in page.scripts
    wanted = {name for script in SCRIPTS for name in re_ids(script.read_text())}
    assert 'plotly' in wanted and wanted <= set(page.ids), 'what the scripts look for is in the page'


def re_ids(script: str) -> list[str]:
    """Ids that a script asks for by byId('...')."""
    return [part.split("'")[0] for part in script.split("byId('")[1:]]


def test_maps_and_segments(report, files):
    page, _ = report('--pictures', NUMBER)
    contents = json.loads(page.scripts['contents'])
    gt, pred = (json.loads(path.read_text())['annotations'] for path in (files[0], files[2]))
    result = score_files(*files[:2], [files[2:4]], segments=True)
    seen = 0
    for image in (image for image in contents['images'] if 'picture' in image):
        picture = json.loads(page.scripts[f'picture-{image["picture"]}'])
        truth, predicted = (next(a for a in of if a['image_id'] == image['id']) for of in (gt, pred))
        maps = []
        for annotation, folder, shown in (
            (truth, files[1], picture['truth']),
            (predicted, files[3], picture['runs'][0]),
        ):
            ids = rgb_to_id(cv2.imread(str(folder / annotation['file_name']))[..., ::-1].copy())
            indices = rgb_to_id(decoded(shown['png'], 'png').copy())
            known = [0, *(segment['id'] for segment in annotation['segments_info'])]
            np.testing.assert_array_equal(np.array(known)[indices], ids)
            assert [s['category'] for s in shown['segments']] == [s['category_id'] for s in annotation['segments_info']]
            maps.append(known)
        assert decoded(picture['image'], 'jpeg').shape == (picture['height'], picture['width'], 3)
        states = [segment['states'][0] for segment in picture['truth']['segments']]
        others = [segment['state'] for segment in picture['runs'][0]['segments']]
        for row in (row for row in result['segments'] if row['image_id'] == image['id']):
            sides = {'match': 'both', 'missed': 'gt', 'extra': 'pred'}[row['kind']]
            places = [
                known.index(row[key]) if row[key] else 0 for known, key in zip(maps, ('gt_id', 'pred_id'), strict=True)
            ]
            if sides != 'pred':
                assert states[places[0] - 1] == dict(
                    kind=row['kind'], iou=row['iou'], cause=row['cause'], partner=places[1]
                )
            if sides != 'gt':
                assert others[places[1] - 1] == dict(
                    kind=row['kind'], iou=row['iou'], cause=row['cause'], partner=places[0]
                )
            seen += 1
        crowds = [s['iscrowd'] == 1 for s in truth['segments_info']]
        assert [state['kind'] == 'crowd' for state in states] == crowds
    assert seen > 50


def test_two_sets_side_by_side(report, files):
    page, _ = report('--against', *files[:2], '--names', 'mine', 'truth', '--pictures', 3)
    contents = json.loads(page.scripts['contents'])
    assert contents['names'] == ['mine', 'truth'] and contents['runs'][1]['scores']['All']['pq'] == 100
    assert contents['difference']['All']['pq']['interval'][1] <= 0
    picture = json.loads(page.scripts['picture-0'])
    assert len(picture['runs']) == 2 and all(len(s['states']) == 2 for s in picture['truth']['segments'])
    assert 'mine against truth' in (Path(files[0]).parents[1] / 'report.html').read_text(encoding='utf-8')


def test_what_the_fusion_has_hidden(report, files, tmp_path):
    """Every thing was found before the fusion, so that none is missed."""
    gt, found = json.loads(files[0].read_text()), []
    things = {category['id'] for category in gt['categories'] if category['isthing']}
    for annotation in gt['annotations']:
        ids = rgb_to_id(cv2.imread(str(files[1] / annotation['file_name']))[..., ::-1].copy())
        for segment in annotation['segments_info']:
            if segment['category_id'] in things and not segment['iscrowd']:
                mask = coco_masks.encode(np.asfortranarray(ids == segment['id'], np.uint8))
                mask['counts'] = mask['counts'].decode()
                kept = dict(image_id=annotation['image_id'], category_id=segment['category_id'], score=0.9)
                found.append(kept | dict(segmentation=mask))
    (tmp_path / 'found.json').write_text(json.dumps(found))
    plain = json.loads(report('--pictures', 0)[0].scripts['contents'])['runs'][0]
    page, _ = report('--pictures', 0, '--instances', tmp_path / 'found.json')
    known = json.loads(page.scripts['contents'])['runs'][0]
    assert plain['fn']['hidden'] == 0 < known['fn']['hidden']
    assert known['points']['Things']['missed'] == 0 < plain['points']['Things']['missed']
    page, _ = report('--pictures', 0, '--instances', tmp_path / 'found.json', '--score-thr', 0.95)
    assert json.loads(page.scripts['contents'])['runs'][0] == plain


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (('--pictures', -1), '--pictures -1'),
        (('--bootstrap', 3), 'at least 10 draws'),
        (('--names', 'a', 'b'), '--names has 2 names, and there are 1 sets'),
        (('--images', 'none'), '--images none is no folder'),
    ],
)
def test_errors(args, message, report):
    with pytest.raises(UserError, match=message):
        report(*args)


def test_an_image_of_another_size(report, files):
    cv2.imwrite(str(files[4] / '0001.jpg'), np.zeros((5, 5, 3), np.uint8))
    with pytest.raises(UserError, match=r'0001\.jpg is 5x5, its annotation says 24x32'):
        report('--pictures', NUMBER)


def test_no_image_is_taken_from_elsewhere(report, files, tmp_path):
    """The page is meant to be sent to others."""
    data = json.loads(files[0].read_text())
    for image in data['images']:
        (files[-1] / image['file_name']).rename(tmp_path / image['file_name'])
        image['file_name'] = f'../{"../" * (len(files[-1].parts) - len(tmp_path.parts) - 1)}{image["file_name"]}'
        assert Path(files[-1], image['file_name']).resolve().is_file()
    files[0].write_text(json.dumps(data))
    with pytest.raises(DatasetError, match='leads out of'):
        report()


def test_without_plotly(report, monkeypatch):
    monkeypatch.setitem(sys.modules, 'plotly.offline', None)
    with pytest.raises(UserError, match='pip install plotly'):
        report('--pictures', 1)


def test_plotly_has_its_script():
    offline = pytest.importorskip('plotly.offline')
    assert len(offline.get_plotlyjs()) > 10**6
