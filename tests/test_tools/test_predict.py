import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures.tiny_model import TinyModel
from helpers import bombs
from helpers.repo import load_tool, run_main
from pycocotools.coco import COCO

from mmpanoptic.apis import PanopticInferencer, PanopticResult
from mmpanoptic.datasets.shapes.categories import CATEGORIES
from mmpanoptic.engine import cli
from mmpanoptic.engine.configs import load_config
from mmpanoptic.formats.panoptic_png import decode_panoptic_png
from mmpanoptic.formats.panoptic_writer import image_ids
from mmpanoptic.results import RATINGS

TOOL = load_tool('predict')


@pytest.fixture
def predict(tiny: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Runs the tool on inputs, in this process; returns the folder that it shall write."""
    out = tmp_path / 'results' / 'out'

    def run(*args: Path | str, config: str = tiny.config, checkpoint: str = tiny.checkpoint) -> Path:
        arguments = [config, checkpoint, *args, '--out', out, '--device', 'cpu']
        cli.run(lambda: run_main(TOOL, monkeypatch, *arguments))
        return out

    return run


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob('[!.]*') if path.is_file())


def error_line(capsys: pytest.CaptureFixture) -> str:
    lines = [line for line in capsys.readouterr().err.splitlines() if 'Warning' not in line and 'warn(' not in line]
    assert len(lines) == 1 and lines[0].startswith('error: ')
    return lines[0]


def test_predict_folder(predict: Callable, tiny: TinyModel):
    out = predict(tiny.images)
    names = ('07', '11', '12')
    pngs = [f'panoptic/{name}.png' for name in names] + [f'pictures/{name}.png' for name in names]
    assert files_below(out.parent) == ['out/panoptic.json', *(f'out/{png}' for png in pngs)]

    content = json.loads((out / 'panoptic.json').read_text())
    assert [(image['id'], image['file_name']) for image in content['images']] == [
        (7, '07.png'),
        (11, '11.jpg'),
        (12, '12.png'),
    ]
    keys = ('id', 'name', 'isthing', 'color')
    assert [[c[key] for key in keys] for c in content['categories']] == [[c[key] for key in keys] for c in CATEGORIES]

    inferencer = PanopticInferencer(tiny.config, tiny.checkpoint, device='cpu')
    for annotation, result in zip(content['annotations'], inferencer(tiny.images), strict=True):
        assert annotation['image_id'] == int(Path(annotation['file_name']).stem)
        ids = decode_panoptic_png((out / 'panoptic' / annotation['file_name']).read_bytes(), '')
        segments = annotation['segments_info']
        assert {s['id'] for s in segments} == set(np.unique(ids)) - {0}
        for segment, expected in zip(segments, result.segments, strict=True):
            mask = result.id_map == expected.id
            np.testing.assert_array_equal(ids == segment['id'], mask)
            assert segment['category_id'] == CATEGORIES[expected.label]['id']  # these stand in label order
            assert segment['area'] == mask.sum() and segment['iscrowd'] == 0
            x, y, w, h = segment['bbox']
            assert mask[y : y + h, x : x + w].sum() == mask.sum()
            assert mask[y].any() and mask[y + h - 1].any() and mask[:, x].any() and mask[:, x + w - 1].any()
        picture = cv2.imread(str(out / 'pictures' / annotation['file_name']))
        np.testing.assert_array_equal(picture[..., ::-1], result.draw())


@pytest.mark.parametrize('number', [*RATINGS, 'none'])
def test_the_number_beside_names(predict: Callable, number: str, tiny: TinyModel, monkeypatch: pytest.MonkeyPatch):
    """What is asked for is what is drawn; the picture is that of the result."""
    draw, asked = PanopticResult.draw, []

    def noted(self: PanopticResult, **options: object) -> np.ndarray:
        asked.append(options)
        return draw(self, **options)

    monkeypatch.setattr(PanopticResult, 'draw', noted)
    image = tiny.images / '07.png'
    picture = cv2.imread(str(predict(image, '--number', number) / 'pictures/07.png'))[..., ::-1]
    assert asked == [dict(number=None if number == 'none' else number)]
    (result,) = PanopticInferencer(tiny.config, tiny.checkpoint, device='cpu')(image)
    np.testing.assert_array_equal(picture, draw(result, **asked[0]))
    assert (picture != draw(result)).any() == (number != 'score')


def test_images_of_one_name_and_no_pictures(predict: Callable, tiny: TinyModel, tmp_path: Path):
    for folder in ('a', 'b'):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / 'x.png').write_bytes((tiny.images / '07.png').read_bytes())
    out = predict(tmp_path / 'a', tmp_path / 'b' / 'x.png', tmp_path / 'a' / 'x.png', '--no-pictures')
    assert files_below(out) == ['panoptic.json', 'panoptic/a_x.png', 'panoptic/b_x.png']
    assert [image['id'] for image in json.loads((out / 'panoptic.json').read_text())['images']] == [1, 2]


def test_image_ids():
    assert image_ids(['a/000139.jpg', '7.png']) == [139, 7]
    assert image_ids(['7.png', '07.png']) == [1, 2]
    assert image_ids(['7.png', 'x.png']) == [1, 2]


def damaged(tiny: TinyModel, folder: Path) -> list[str]:
    """Write images that cannot be read; their names. Of the last one, the header is whole and the pixels are not."""
    data = (tiny.images / '07.png').read_bytes()
    start = data.index(b'IDAT') + 20
    (folder / 'cut.png').write_bytes(data[:-40])
    (folder / 'text.jpg').write_text('hello')
    (folder / 'empty.png').touch()
    (folder / 'pixels.png').write_bytes(data[:start] + bytes(200) + data[start + 200 :])
    return ['cut.png', 'text.jpg', 'empty.png', 'pixels.png']


def test_bad_images_among_others_are_left_out(
    predict: Callable, tiny: TinyModel, tmp_path: Path, capsys: pytest.CaptureFixture
):
    bad = damaged(tiny, tmp_path)
    with pytest.raises(SystemExit) as ending:
        predict(tiny.images / '07.png', tmp_path, tiny.images / '12.png')
    assert ending.value.code == 1
    *reasons, line = capsys.readouterr().err.splitlines()
    for name in bad:
        assert sum(reason.startswith(f'left out: {tmp_path / name} ') for reason in reasons) == 1
    out = tmp_path / 'results' / 'out'
    assert line == f'error: 4 of 6 files are unusable, see above; 2 of 6 images are predicted: {out}/'
    assert [image['file_name'] for image in json.loads((out / 'panoptic.json').read_text())['images']] == [
        '07.png', '12.png'
    ]  # fmt: skip
    assert files_below(out) == [
        'panoptic.json',
        *(f'{f}/{n}.png' for f in ('panoptic', 'pictures') for n in ('07', '12')),
    ]
    alone = predict(tiny.images / '07.png', tiny.images / '12.png')  # the marker lets a later run replace it
    assert 'panoptic/07.png' in files_below(alone)


def test_nothing_but_bad_images(predict: Callable, tiny: TinyModel, tmp_path: Path, capsys: pytest.CaptureFixture):
    out = predict(tiny.images / '07.png')
    before = files_below(tmp_path)
    bad = damaged(tiny, tmp_path)
    capsys.readouterr()
    with pytest.raises(SystemExit):
        predict(tmp_path / bad[0])
    assert f'{bad[0]} is truncated' in (line := error_line(capsys)) and f'and {out} is what it was' in line
    with pytest.raises(SystemExit):
        predict(tmp_path / bad[-1])
    assert f'{bad[-1]} cannot be decoded' in (line := error_line(capsys)) and 'nothing is predicted' in line
    with pytest.raises(SystemExit):
        predict(tmp_path)
    assert 'error: 4 of 4 files are unusable, see above; nothing is predicted' in capsys.readouterr().err
    assert files_below(tmp_path) == sorted([*before, *bad])


def test_other_formats_of_a_folder_are_named(
    predict: Callable, tiny: TinyModel, tmp_path: Path, capsys: pytest.CaptureFixture
):
    (tmp_path / '07.png').write_bytes((tiny.images / '07.png').read_bytes())
    for name in ('a.gif', 'b.AVIF', 'c.jp2', 'd.heic', 'notes.txt', '.hidden.gif'):
        (tmp_path / name).touch()
    predict(tmp_path, '--no-pictures')
    assert '4 files of other formats are left out' in (printed := capsys.readouterr().out)
    assert 'are read): a.gif, b.AVIF, c.jp2, d.heic\n' in printed and 'notes' not in printed


def test_addresses_that_are_not_fetched(predict: Callable, capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit):
        predict('s3://bucket/a.jpg')
    line = error_line(capsys)
    assert line.startswith('error: image s3://bucket/a.jpg is an address that is not fetched (http and https are)')


@pytest.mark.parametrize('size', [(1, 1), (1, 64), (64, 1), (3, 5000), (5000, 3)])
def test_images_of_extreme_shapes(size: tuple[int, int], predict: Callable, tmp_path: Path):
    cv2.imwrite(str(tmp_path / '1.png'), np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8))
    out = predict(tmp_path / '1.png')
    assert decode_panoptic_png((out / 'panoptic/1.png').read_bytes(), '').shape == size
    height, width = cv2.imread(str(out / 'pictures/1.png')).shape[:2]
    assert height % size[0] == 0 and width % size[1] == 0 and max(height, width) <= 2**14


@pytest.mark.parametrize('kind', bombs.BOMBS)
def test_images_that_claim_too_much(
    kind: str, predict: Callable, tiny: TinyModel, tmp_path: Path, capsys: pytest.CaptureFixture
):
    path = tmp_path / f'bomb.{kind}'
    path.write_bytes(bombs.BOMBS[kind](16000, 16000))
    with pytest.raises(SystemExit):
        predict(path, checkpoint='nowhere.pth')
    line = error_line(capsys)
    assert f'bomb.{kind} c' in line
    assert line.endswith('(--max-pixels)') or kind == 'webp'
    assert not (tmp_path / 'results').exists()


def test_max_pixels(
    predict: Callable, tiny: TinyModel, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv('MMPANOPTIC_MAX_PIXELS', '1000')
    image = tiny.images / '07.png'
    with pytest.raises(SystemExit):
        predict(image)
    height, width = cv2.imread(str(image)).shape[:2]
    assert f'claims to be {height}x{width} (height x width), and 1000 pixels are allowed' in error_line(capsys)
    for wrong in ('0', str(2**31)):
        with pytest.raises(SystemExit):
            predict(image, '--max-pixels', wrong)
        assert 'give a number of pixels from 1 to' in error_line(capsys)
    assert (predict(image, '--max-pixels', height * width) / 'panoptic/07.png').exists()


def test_nothing_is_left_of_a_failure(
    predict: Callable, tiny: TinyModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
):
    draw, calls = PanopticResult.draw, []

    def fail_at_second(self: PanopticResult, *args: object, **kwargs: object) -> np.ndarray:
        calls.append(self.path)
        if len(calls) == 2:
            raise OSError(28, 'No space left on device')
        return draw(self, *args, **kwargs)

    monkeypatch.setattr(PanopticResult, 'draw', fail_at_second)
    with pytest.raises(SystemExit):
        predict(tiny.images)
    assert 'No space left on device' in error_line(capsys)
    assert not files_below(tmp_path / 'results')


def test_foreign_folder_is_kept(predict: Callable, tiny: TinyModel, tmp_path: Path, capsys: pytest.CaptureFixture):
    (tmp_path / 'results' / 'out').mkdir(parents=True)
    predict(tiny.images / '07.png')  # an empty folder is no obstacle, nor is an earlier result
    predict(tiny.images / '12.png')
    assert files_below(tmp_path / 'results') == ['out/panoptic.json', 'out/panoptic/12.png', 'out/pictures/12.png']
    (tmp_path / 'results' / 'out' / 'notes.txt').write_text('mine')
    before = files_below(tmp_path)
    capsys.readouterr()
    with pytest.raises(SystemExit):
        predict(tiny.images)
    assert 'out holds notes.txt, which tools/predict.py did not make: move the folder away' in error_line(capsys)
    assert files_below(tmp_path) == before


def test_model_of_instances_only(predict: Callable, tiny: TinyModel, tmp_path: Path):
    base = load_config(str(tiny.config))
    model = {key: value for key, value in base.model.items() if key not in ('semantic_head', 'panoptic_fusion_head')}
    base.model = model | dict(type='MaskRCNN')
    config = tmp_path / 'mask-rcnn.py'
    base.dump(config)
    out = predict(tiny.images, config=str(config))
    assert files_below(out) == ['instances.json', 'pictures/07.png', 'pictures/11.png', 'pictures/12.png']

    loaded = COCO(out / 'instances.json')  # of itself: it names its images and categories
    names = {number: loaded.imgs[number]['file_name'] for number in (7, 11, 12)}
    assert names == {7: '07.png', 11: '11.jpg', 12: '12.png'}
    assert [category['name'] for category in loaded.dataset['categories']] == [c['name'] for c in CATEGORIES]
    inferencer = PanopticInferencer(str(config), tiny.checkpoint, device='cpu')
    for number, result in zip((7, 11, 12), inferencer(tiny.images), strict=True):
        found = loaded.loadAnns(loaded.getAnnIds(number))
        assert result.id_map is None and len(found) == len(result.instances) > 0
        for one, mask, bbox, label, score in zip(
            found,
            result.instances.masks,
            result.instances.bboxes.tolist(),
            result.instances.labels.tolist(),
            result.instances.scores.tolist(),
            strict=True,
        ):
            np.testing.assert_array_equal(loaded.annToMask(one), mask)
            x, y, w, h = one['bbox']
            assert [x, y, x + w, y + h] == pytest.approx(bbox, abs=1e-3)
            assert one['category_id'] == CATEGORIES[label]['id'] and one['score'] == score
            assert one['area'] == mask.sum() and one['iscrowd'] == 0
