"""The report as a reader has it: opened in Chromium, filtered, clicked, pointed at."""

import base64
import json
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import cv2
import numpy as np
import pytest
from helpers.browser import chromium, open_file, watched_page
from helpers.pq_cases import random_case, write_files

from mmpanoptic.evaluation.file_scores import Bootstrap, score_files
from mmpanoptic.report import build_report, contents_of, render_page
from mmpanoptic.report.contents import rows_by_image
from mmpanoptic.structures import rgb_to_id

NUMBER, PICTURES = 12, 8
# Of a class that occurs; a script that ran would set the variable.
NAME = '<img src=x onerror="window.ran=1"><script>window.ran=2</script><b>sky</b> & &lt;'
PLOTS = ['waterfall', 'classes', 'sizes', 'occlusion', 'crowdedness', 'confusion']


@pytest.fixture(scope='module')
def browser():
    with chromium() as started:
        yield started


@pytest.fixture
def page(browser):
    with watched_page(browser) as opened:
        yield opened


@pytest.fixture(scope='module')
def reports(tmp_path_factory) -> SimpleNamespace:
    """Two pages: of predictions, and of two halves: each is the ground truth itself in every other image."""
    root = tmp_path_factory.mktemp('pages')
    gt_json, gt_dir, pred_json, pred_dir = write_files(root, [random_case(seed) for seed in range(NUMBER)])
    gt = json.loads(gt_json.read_text())
    gt['categories'][0]['name'] = NAME
    gt_json.write_text(json.dumps(gt))
    for image in gt['images']:
        cv2.imwrite(str(root / image['file_name']), np.full((image['height'], image['width'], 3), 90, np.uint8))
    predicted = {a['image_id']: a for a in json.loads(pred_json.read_text())['annotations']}
    halves = []
    for parity in (0, 1):
        folder = root / f'half{parity}'
        folder.mkdir()
        annotations = [a if a['image_id'] % 2 == parity else predicted[a['image_id']] for a in gt['annotations']]
        for a in annotations:
            source = gt_dir if a['image_id'] % 2 == parity else pred_dir
            (folder / a['file_name']).write_bytes((source / a['file_name']).read_bytes())
        path = root / f'half{parity}.json'
        path.write_text(json.dumps({'annotations': annotations}))
        halves.append((path, folder))

    def made(name: str, sets: list, names: list[str]) -> SimpleNamespace:
        result = score_files(gt_json, gt_dir, sets, Bootstrap(20), segments=True)
        contents = contents_of(result, rows_by_image(result), gt, str(gt_json), names)
        text = build_report(result, (gt_json, gt_dir), sets, names, root, PICTURES)
        (root / name).write_text(text, encoding='utf-8')
        return SimpleNamespace(path=root / name, contents=contents, result=result)

    return SimpleNamespace(
        truth={a['image_id']: a for a in gt['annotations']},
        predicted=predicted,
        alone=made('alone.html', [(pred_json, pred_dir)], ['mine']),
        two=made('two.html', halves, ['<i>even</i>', 'odd']),
    )


def drawn(page, path: Path, address: str = '') -> None:
    """Open a page and wait for all of its plots."""
    open_file(page, path, address)
    page.wait_for_selector('body[data-plots=drawn]')


def listed(page) -> list[str]:
    """Names of the images in the table."""
    return page.locator('#images tbody tr td:first-child').all_inner_texts()


def address_of(page) -> dict[str, str]:
    return {key: value for key, (value,) in parse_qs(urlsplit(page.url).fragment).items()}


def expected(report, of_class: str = '', cause: str = '') -> dict[str, float]:
    """Points by name of the images that lose any by a class and a cause."""
    places = {
        place for place, category in enumerate(report.contents['categories']) if of_class in ('', category['name'])
    }
    points = {}
    for image in report.contents['images']:
        lost = [entry for entry in image['lost'][0] if entry[0] in places and cause in ('', entry[1])]
        if lost or not (of_class or cause):
            points[image['name']] = sum(one[3] for one in lost)
    return points


def test_plots_have_the_numbers(page, reports):
    drawn(page, reports.alone.path)
    run = reports.alone.contents['runs'][0]
    for plot in PLOTS:
        assert page.locator(f'#{plot} .main-svg').first.is_visible(), plot
    values = page.evaluate('document.getElementById("waterfall").data[0].y')
    assert values[0] == 100 and values[-1] == run['scores']['All']['pq']
    assert sum(values[:-1]) == pytest.approx(values[-1], abs=0.01)
    assert page.locator('#waterfall .waterfalllayer .point').count() == len(values)
    occurring = [one for one in run['classes'] if one['tp'] + one['fp'] + one['fn']]
    assert page.locator('#classes .barlayer .point').count() == len(occurring)
    assert page.locator('#gains').is_hidden()
    page.select_option('#group', 'Stuff')
    assert page.evaluate('document.getElementById("waterfall").data[0].y.at(-1)') == run['scores']['Stuff']['pq']
    scores = page.locator('#summary tr').nth(1).inner_text()
    assert f'{run["scores"]["All"]["pq"]:.2f}' in scores and scores.startswith('All')


def test_names_are_texts_and_run_nothing(page, reports):
    drawn(page, reports.two.path, '#pictured=1')
    page.select_option('#class', NAME)
    page.locator('#images tbody tr').first.click()
    page.locator('canvas').nth(1).hover()
    assert page.evaluate('window.ran') is None and page.locator('img, b b, i').count() == 0
    for plot, axis in (('classes', 'xtick'), ('confusion', 'ytick'), ('gains', 'x2tick')):
        assert NAME in page.locator(f'#{plot} .{axis} text').all_text_contents()
    assert '<i>even</i>' in page.locator('#classes .legendtext').all_text_contents()
    assert page.title() == 'PQ: <i>even</i> against odd'
    assert NAME in page.locator('#class option').all_inner_texts()


@pytest.mark.parametrize(('of_class', 'cause'), [('', 'mask'), (NAME, ''), ('cat', 'missed'), ('never there', '')])
def test_a_filter_lists_what_loses_by_it(page, reports, of_class, cause):
    open_file(page, reports.alone.path)
    assert sorted(listed(page)) == sorted(expected(reports.alone))
    page.select_option('#class', of_class)
    page.select_option('#cause', cause)
    points = expected(reports.alone, of_class, cause)
    assert len(points) < NUMBER and (points or of_class == 'never there')
    assert listed(page) == sorted(points, key=lambda name: (-points[name], name))
    assert page.locator('#number').inner_text() == f'{len(points)} of {NUMBER} images'
    shown = page.locator('#images tbody tr td:nth-child(4)').all_inner_texts()
    assert [float(text) for text in shown] == pytest.approx(sorted(points.values(), reverse=True), abs=1e-4)


def test_a_click_on_a_bar_filters(page, reports):
    drawn(page, reports.alone.path)
    bar = page.locator('#classes .barlayer .point path').last
    bar.scroll_into_view_if_needed()
    box = bar.bounding_box()
    page.mouse.move(box['x'] + box['width'] / 2, box['y'] + box['height'] / 2)
    page.wait_for_selector('#classes .hovertext')
    page.mouse.down()
    page.mouse.up()
    page.wait_for_function("location.hash.includes('class=')")
    chosen = address_of(page)['class']
    values = reports.alone.contents['runs'][0]['classes']
    named = dict(zip((one['name'] for one in reports.alone.contents['categories']), values, strict=True))
    assert named[chosen]['pq'] == max(one['pq'] for one in values)
    assert page.locator('#class').input_value() == chosen and set(listed(page)) == set(expected(reports.alone, chosen))


def map_of(picture: dict) -> np.ndarray:
    """Places of segments from 1 on, of shape (H, W)."""
    data = base64.b64decode(picture['png'].partition(',')[2])
    return rgb_to_id(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1])


def point_at(page, panel: str, where: np.ndarray) -> str:
    """Move the mouse to the first pixel of a mask of shape (H, W) in a panel; returns what is said of it."""
    canvas = page.locator(f'canvas[data-title="{panel}"]')
    box = canvas.bounding_box()
    y, x = (np.argwhere(where)[0] + 0.5) / where.shape * (box['height'], box['width'])
    canvas.hover(position={'x': float(x), 'y': float(y)})
    return page.locator('#hover').inner_text()


def said_of(row: dict | None, uncounted: str) -> str:
    """What the page has to say of a segment, from its row of the account."""
    if row is None:
        return f'{uncounted}, does not count'
    if row['kind'] == 'match':
        return f'match, IoU {100 * row["iou"]:.1f} %'
    return row['cause'] if row['cause'] == row['kind'] else f'{row["kind"]}: {row["cause"]}'


def test_the_segment_under_the_mouse_is_named(page, reports):
    """Every segment of three images, by one pixel of it in the truth and in the prediction."""
    open_file(page, reports.alone.path, '#pictured=1&order=name')
    name_of = {one['id']: one['name'] for one in reports.alone.contents['categories']}
    kinds = set()
    for shown in range(3):
        page.locator('#images tbody tr').nth(shown).click()
        image = int(address_of(page)['image'])
        page.wait_for_selector(f'#panels[data-open="{image}"]')
        place = page.evaluate(f'data.images.find(({{ id }}) => id === {image}).picture')
        picture = json.loads(page.locator(f'#picture-{place}').text_content())
        of_image = [row for row in reports.alone.result['segments'] if row['image_id'] == image]
        for panel, png, segments, key, other, uncounted in (
            ('ground truth', picture['truth'], reports.truth[image], 'gt_id', 'extra', 'crowd'),
            ('prediction', picture['runs'][0], reports.predicted[image], 'pred_id', 'missed', 'excused'),
        ):
            places = map_of(png)
            for number, segment in enumerate(segments['segments_info'], 1):
                row = next((row for row in of_image if row[key] == segment['id'] and row['kind'] != other), None)
                wanted = f'{panel}: {name_of[segment["category_id"]]}\n{said_of(row, uncounted)}'
                assert point_at(page, panel, places == number) == wanted
                kinds.add(row and row['kind'])
            if (places == 0).any():
                assert point_at(page, panel, places == 0) == f'{panel}: void'
    assert kinds == {'match', 'missed', 'extra', None}


def test_a_click_opens_an_image_and_an_address_restores_all(page, browser, reports):
    """What is chosen, in a new page as in the first, and by the button 'back' what was chosen before."""
    drawn(page, reports.alone.path)
    page.select_option('#class', 'cat')
    page.select_option('#cause', 'mask')
    page.select_option('#order', 'worst')
    page.select_option('#group', 'Things')
    page.check('#pictured')
    assert page.locator('#viewer').is_hidden() and 1 < len(listed(page)) <= PICTURES
    row = page.locator('#images tbody tr').nth(1)
    name = row.locator('td').first.inner_text()
    row.click()
    page.wait_for_selector('#panels[data-open]')
    assert page.locator('#opened').inner_text() == name
    assert page.locator('figcaption').all_inner_texts() == ['image', 'ground truth', 'prediction']
    wanted = seen(page)
    assert wanted['open'] == [name] and wanted['chosen'] == ['cat', 'mask', 'worst', 'Things', True]
    with watched_page(browser) as other:
        other.goto(page.url)
        other.wait_for_selector('#panels[data-open]')
        other.wait_for_selector('body[data-plots=drawn]')
        assert seen(other) == wanted
    page.go_back()
    page.wait_for_selector('#viewer', state='hidden')
    assert seen(page)['chosen'] == wanted['chosen'] and seen(page)['open'] == []
    page.go_back()
    page.wait_for_function('!document.getElementById("pictured").checked')
    assert len(listed(page)) > len(wanted['listed'])


def seen(page) -> dict:
    """What a reader sees of what was chosen."""
    return {
        'chosen': [page.locator(f'#{key}').input_value() for key in ('class', 'cause', 'order', 'group')]
        + [page.locator('#pictured').is_checked()],
        'listed': listed(page),
        'open': page.locator('#images tr.open td:first-child').all_inner_texts(),
        'last bar': page.evaluate('document.getElementById("waterfall").data[0].y.at(-1)'),
        'pixels': page.evaluate('[...document.querySelectorAll("canvas")].map((canvas) => canvas.toDataURL())'),
    }


def test_an_address_of_another_report_opens(page, reports):
    drawn(page, reports.alone.path, '#group=constructor&order=gain&class=zebra&cause=toString&image=4711&more=1')
    assert seen(page)['chosen'] == ['', '', 'lost', 'All', False]
    assert sorted(listed(page)) == sorted(expected(reports.alone)) and page.locator('#viewer').is_hidden()


def test_an_image_without_a_picture(page, reports):
    open_file(page, reports.alone.path)
    page.locator('#images tbody tr', has=page.locator('td:last-child:empty')).first.click()
    assert 'no picture of it' in page.locator('#reasons').inner_text() and page.locator('canvas').count() == 0


def test_what_each_of_two_gained_and_lost(page, reports):
    drawn(page, reports.two.path, '#order=gain')
    first, second = reports.two.contents['runs']
    values, causes = page.evaluate('["y", "x"].map((key) => document.getElementById("gains").data[0][key])')
    pq = [run['scores']['All']['pq'] for run in (second, first)]
    assert [values[0], values[-1]] == pq and sum(values[:-1]) == pytest.approx(pq[1], abs=0.02)
    for cause, value in zip(causes[1:-1], values[1:-1], strict=True):
        assert value == pytest.approx(second['points']['All'][cause] - first['points']['All'][cause])
    gained = page.evaluate('document.getElementById("gains").data[1].y')
    wanted = [one['pq'] - other['pq'] for one, other in zip(first['classes'], second['classes'], strict=True)]
    assert gained == pytest.approx(sorted(wanted[:5], reverse=True)) and gained[0] > 0 > gained[-1]

    images = {image['name']: image for image in reports.two.contents['images']}
    known = {name: [100 if of is None else of for of in image['quality']] for name, image in images.items()}
    gains = {name: one - other for name, (one, other) in known.items()}
    assert listed(page)[0] == max(gains, key=gains.get) and max(gains.values()) > 0 > min(gains.values())
    page.select_option('#order', 'loss')
    assert listed(page)[0] == min(gains, key=gains.get)
    shown = page.locator('#images tbody tr').first.locator('td').nth(4).inner_text()
    assert shown == f'−{-min(gains.values()):.1f}'
    rows = page.locator('#summary tr').all_inner_texts()
    assert any(row.startswith(f'All: gain\t{pq[1] - pq[0]:+.2f}'.replace('-', '−')) for row in rows)

    page.check('#pictured')
    page.locator('#images tbody tr').first.click()
    page.wait_for_selector('#panels[data-open]')
    assert page.locator('figcaption').all_inner_texts() == ['image', 'ground truth', '<i>even</i>', 'odd']
    page.locator('canvas').nth(1).hover()
    text = page.locator('#hover').inner_text()
    assert '<i>even</i>: ' in text and '; odd: ' in text


@pytest.fixture(scope='module')
def large_page(reports, tmp_path_factory) -> Path:
    """Two sets of predictions on 5000 images, 60 of them with pictures of 640x480 pixels."""
    rng = np.random.default_rng(0)
    images = reports.two.contents['images']
    many = [images[k % NUMBER] | {'id': k, 'name': f'{k:05d}.jpg'} for k in range(5000)]
    data = base64.b64encode(rng.bytes(100_000)).decode()
    pictures = [{'image': f'data:image/jpeg;base64,{data}', 'number': number} for number in range(60)]
    for place in range(60):
        many[80 * place] |= {'picture': place, 'reasons': ['worst']}
    path = tmp_path_factory.mktemp('large') / 'large.html'
    path.write_text(render_page(reports.two.contents | {'images': many}, pictures), encoding='utf-8')
    return path


@pytest.mark.timing
def test_5000_images_are_listed_in_a_second(browser, large_page):
    """The time from opening a page to when scores and images are painted, the best of three; plots follow."""
    seconds = []
    for _ in range(3):
        with watched_page(browser) as page:
            drawn(page, large_page)
            assert page.locator('#number').inner_text() == '5000 of 5000 images'
            assert page.locator('#images tbody tr').count() == 100
            listed, painted = page.evaluate(
                "[performance.getEntriesByName('listed')[0], performance.getEntriesByType('paint').at(-1)]"
                '.map(({ startTime }) => startTime)'
            )
            seconds.append((max(listed, painted) / 1000, page.evaluate('performance.now() / 1000')))
            page.click('#more')
            assert page.locator('#images tbody tr').count() == 500
    best, whole = map(min, zip(*seconds, strict=True))
    print(f'{best:.2f} s to the list of 5000 images, {whole:.2f} s to the last plot')
    assert best <= 1
