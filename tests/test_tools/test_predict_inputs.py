"""What predict makes of images of every kind, videos and addresses, and what is left of a run that is interrupted."""

import json
import re
import signal
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures.tiny_model import TinyModel
from helpers.repo import load_tool, run_main
from PIL import Image

from mmpanoptic.apis import PanopticInferencer, frames_of
from mmpanoptic.apis.video import VideoFile
from mmpanoptic.engine import cli
from mmpanoptic.exporters import Options, PanopticFiles, export
from mmpanoptic.formats.panoptic_png import encode_panoptic_png
from mmpanoptic.results import PanopticResult
from mmpanoptic.utils import DatasetError, WriteError

TOOL = load_tool('predict')
RGB = cv2.resize(
    np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8), (64, 48), interpolation=cv2.INTER_CUBIC
)
GREY = RGB[..., 0]


@pytest.fixture
def predict(tiny: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Runs the tool on inputs, in this process; returns the folder that it shall write."""
    out = tmp_path / 'results' / 'out'

    def run(*args: Path | str) -> Path:
        arguments = [tiny.config, tiny.checkpoint, *args, '--out', out, '--device', 'cpu']
        cli.run(lambda: run_main(TOOL, monkeypatch, *arguments))
        return out

    return run


def contents(folder: Path) -> dict[str, bytes]:
    """Files below a folder, but for what a run keeps for itself."""
    files = (path for path in folder.rglob('[!.]*') if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x112] = 6
    return exif


def saved(image: Image.Image, path: Path, **options) -> None:
    image.save(path, **options)


RGBA = np.dstack([RGB, np.where(np.arange(64) < 32, 0, 255)[None].repeat(48, 0).astype(np.uint8)])
PALETTE = Image.fromarray(RGB).quantize(200)
SIX_TIMES_GREY = np.stack([GREY] * 3, axis=-1)
# Name, how it is written, and what the model sees (docs/predict.md says the same).
KINDS = {
    'grey.png': (lambda path: saved(Image.fromarray(GREY), path), SIX_TIMES_GREY),
    'grey16.png': (lambda path: cv2.imwrite(str(path), GREY.astype(np.uint16) * 256 + 255), SIX_TIMES_GREY),
    'rgb16.tif': (lambda path: cv2.imwrite(str(path), RGB[..., ::-1].astype(np.uint16) * 257), RGB),
    'twelve_of_16_bits.tif': (lambda path: cv2.imwrite(str(path), GREY.astype(np.uint16) * 16), SIX_TIMES_GREY // 16),
    'transparent.png': (lambda path: saved(Image.fromarray(RGBA), path), RGB),
    'palette.png': (lambda path: saved(PALETTE, path), np.asarray(PALETTE.convert('RGB'))),
    'still.gif': (lambda path: saved(PALETTE, path), np.asarray(PALETTE.convert('RGB'))),
    'cmyk.tif': (lambda path: saved(Image.fromarray(RGB).convert('CMYK'), path), RGB),
    'turned.png': (lambda path: saved(Image.fromarray(RGB), path, exif=turned()), np.rot90(RGB, -1)),
    'bits.png': (lambda path: saved(Image.fromarray(GREY > 99), path), 255 * (SIX_TIMES_GREY > 99)),
}


@pytest.mark.parametrize('name', KINDS)
def test_kinds_of_images(name: str, inferencer: PanopticInferencer, tmp_path: Path):
    write, expected = KINDS[name]
    write(tmp_path / name)
    (result,) = inferencer(tmp_path / name)
    np.testing.assert_array_equal(result.image, expected)
    assert result.id_map.shape == expected.shape[:2]


@pytest.mark.parametrize('name', ['turned.jpg', 'cmyk.jpg'])
def test_kinds_of_jpegs(name: str, inferencer: PanopticInferencer, tmp_path: Path):
    image = Image.fromarray(RGB)
    (image.convert('CMYK') if name == 'cmyk.jpg' else image).save(tmp_path / name, quality=97, exif=turned())
    (result,) = inferencer(tmp_path / name)
    assert np.abs(result.image - np.rot90(RGB, -1).astype(float)).mean() < 3


def test_kinds_that_are_refused_do_not_cost_the_others(
    predict: Callable, tmp_path: Path, capsys: pytest.CaptureFixture
):
    for number in range(3):
        Image.fromarray(RGB).save(tmp_path / f'{number}.png')
    for name in ('animated.webp', 'animated.png', 'pages.tif'):
        frames = [Image.fromarray(np.roll(RGB, 8 * shift, axis=1)) for shift in range(3)]
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    cv2.imwrite(str(tmp_path / 'float.tif'), GREY.astype(np.float32) / 255)
    with pytest.raises(SystemExit):
        predict(tmp_path, '--batch-size', '2', '--no-pictures')
    lines = capsys.readouterr().err.splitlines()
    for name in ('animated.webp', 'animated.png', 'pages.tif'):
        assert any(f'{name} holds 3 images, of which only the first would be read' in line for line in lines)
    assert any(
        'float.tif cannot be decoded as an image: it has 32 bits a channel, write it with 8' in li for li in lines
    )
    assert '4 of 7 files are unusable, see above; 3 of 7 images are predicted' in lines[-1]
    assert sorted(contents(tmp_path / 'results/out')) == ['panoptic.json', *(f'panoptic/{n}.png' for n in range(3))]


def test_scores_and_what_is_less_sure(predict: Callable, tiny: TinyModel, inferencer: PanopticInferencer):
    out = predict(tiny.images, '--score-thr', '0.2', '--threads', '0')
    content = json.loads((out / 'panoptic.json').read_text())
    for annotation, result in zip(content['annotations'], inferencer(tiny.images), strict=True):
        expected = [one for one in result.segments if one.score >= 0.2]
        assert [one['score'] for one in annotation['segments_info']] == [one.score for one in expected]
        assert len(expected) < len(result.segments) or not any(one.isthing for one in result.segments)


def test_images_in_subfolders_are_found_by_their_names(predict: Callable, tmp_path: Path):
    """So that predictions can be exported with the images, as labels to correct."""
    images = tmp_path / 'images'
    for name in ('a.png', 'day/a.png'):
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RGB).save(images / name)
    out = predict(images, '--no-pictures')
    files = PanopticFiles(out / 'panoptic.json', out / 'panoptic', images)
    assert [image['file_name'] for image, _ in files.pairs] == ['a.png', 'day/a.png']
    numbers = export('label-studio', files, tmp_path / 'tasks', Options(), copy_images=False, workers=1)
    assert numbers['images'] == 2 and (tmp_path / 'tasks/images/day/a.png').is_file()


def test_tiles(predict: Callable, tiny: TinyModel, inferencer: PanopticInferencer, capsys: pytest.CaptureFixture):
    out = predict(tiny.images / '07.png', '--tile', '48', '--overlap', '16', '--no-pictures')
    expected = inferencer.tiled(str(tiny.images / '07.png'), (48, 48), 16)
    assert (out / 'panoptic/07.png').read_bytes() == encode_panoptic_png(expected.id_map)
    with pytest.raises(SystemExit):
        predict(tiny.images / '07.png', '--tile', '48', '--overlap', '48')
    assert 'overlap' in capsys.readouterr().err.splitlines()[-1]


def write_video(path: Path, number: int) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), 10, (64, 48))
    for shift in range(number):
        writer.write(np.roll(RGB, 8 * shift, axis=1)[..., ::-1])
    writer.release()


def test_videos(predict: Callable, tmp_path: Path, inferencer: PanopticInferencer, capsys: pytest.CaptureFixture):
    write_video(tmp_path / 'clip.mp4', 5)
    cv2.imwrite(str(tmp_path / '7.png'), RGB)
    (tmp_path / 'broken.avi').write_text('no video')
    with pytest.raises(SystemExit):
        predict(tmp_path)
    assert 'broken.avi cannot be decoded as a video: convert or fetch it again' in (told := capsys.readouterr().err)
    assert '2 of 3 inputs are predicted, 6 images and frames' in told
    out = tmp_path / 'results/out'
    pngs = ['panoptic/7.png', *(f'panoptic/clip/{number:06}.png' for number in range(1, 6))]
    assert sorted(contents(out)) == ['panoptic.json', *pngs, 'pictures/7.png', 'videos/clip.mp4']
    content = json.loads((out / 'panoptic.json').read_text())
    assert [image['id'] for image in content['images']] == [7, 8, 9, 10, 11, 12]
    assert content['images'][2] | dict(id=0) == dict(
        id=0, file_name='clip/000002.png', width=64, height=48, video='clip.mp4', frame=2
    )
    frames = list(frames_of(str(out / 'videos/clip.mp4')))
    assert len(frames) == 5 and frames[0].shape == (384, 512, 3)
    drawn = next(inferencer(frames_of(str(tmp_path / 'clip.mp4')))).draw()
    assert np.abs(frames[0].astype(float) - drawn).mean() < 20
    words = r'short\.mp4 cannot be written \(0 of 1 pictures are in it: is the disk full\?\)$'
    with pytest.raises(WriteError, match=words), VideoFile(tmp_path / 'short.mp4', 10) as video:
        video.add(RGB)
        video._writer.release()
        (tmp_path / 'short.mp4').write_bytes(b'')
    with pytest.raises(DatasetError, match=r'broken\.avi cannot be decoded as a video'):
        next(frames_of(str(tmp_path / 'broken.avi')))


def test_a_video_that_ends_early_is_told(predict: Callable, tmp_path: Path, capsys: pytest.CaptureFixture):
    writer = cv2.VideoWriter(str(tmp_path / 'cut.avi'), cv2.VideoWriter_fourcc(*'MJPG'), 10, (64, 48))
    for shift in range(12):
        writer.write(np.roll(RGB, 4 * shift, axis=1)[..., ::-1])
    writer.release()
    data = (tmp_path / 'cut.avi').read_bytes()
    (tmp_path / 'cut.avi').write_bytes(data[: len(data) // 2])
    with pytest.raises(SystemExit):
        predict(tmp_path / 'cut.avi', '--no-pictures')
    told = capsys.readouterr().err
    assert re.search(r'cut\.avi ends after \d of 12 frames: it is damaged', told)
    assert len(json.loads((tmp_path / 'results/out/panoptic.json').read_text())['images']) in range(3, 9)


class _Handler(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def address(tiny: TinyModel) -> Iterator[str]:
    server = ThreadingHTTPServer(('127.0.0.1', 0), partial(_Handler, directory=str(tiny.images)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f'http://127.0.0.1:{server.server_port}'
    server.shutdown()
    thread.join()


def test_addresses_are_fetched(predict: Callable, tiny: TinyModel, address: str, capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit):
        predict(f'{address}/07.png', f'{address}/none.png', f'{address}/broken.bin', '--no-pictures')
    told = capsys.readouterr().err
    assert f'left out: {address}/none.png cannot be fetched (' in told
    (line,) = (line for line in told.splitlines() if 'broken.bin' in line)
    assert line.startswith(f'left out: {address}/broken.bin cannot be decoded as an image') and '/tmp' not in line
    out = predict(tiny.images / '07.png', '--no-pictures')
    here = contents(out)
    out = predict(f'{address}/07.png', '--no-pictures')
    (png,) = (name for name in contents(out) if name.endswith('.png'))
    assert contents(out)[png] == here['panoptic/07.png'] and png.startswith('panoptic/07_')  # of one server among many
    assert json.loads((out / 'panoptic.json').read_text())['images'][0]['file_name'] == '07.png'


def test_an_interrupted_run_can_be_gone_on_with(
    predict: Callable, tiny: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    """A signal in the middle: whole files alone, beside DIR. The same command with --resume gives the same bytes."""
    expected = contents(predict(tiny.images, '--threads', '0'))
    draw, drawn = PanopticResult.draw, []

    def signalled(self: PanopticResult, *args: object, **kwargs: object) -> np.ndarray:
        drawn.append(Path(self.path).name)
        if len(drawn) == 2:
            signal.raise_signal(signal.SIGINT)
        return draw(self, *args, **kwargs)

    monkeypatch.setattr(PanopticResult, 'draw', signalled)
    with pytest.raises(SystemExit) as ending:
        predict(tiny.images, '--threads', '0')
    assert ending.value.code == 130
    line = capsys.readouterr().err.splitlines()[-1]
    assert line == 'stopped by SIGINT after 2 of 3 images: the same command with --resume goes on'
    out = tmp_path / 'results/out'
    assert contents(out) == expected, 'what was there before'
    unfinished = contents(tmp_path / 'results/out.unfinished')
    assert all(unfinished[name] == expected[name] for name in unfinished if name.endswith('.png'))
    assert sorted(name for name in unfinished if name.endswith('.png')) == [
        f'{kind}/{number}.png' for kind in ('panoptic', 'pictures') for number in ('07', '11')
    ]

    with pytest.raises(SystemExit):
        predict(tiny.images, '--score-thr', '0.5', '--resume')
    assert 'out.unfinished is of a run with another model, other options' in capsys.readouterr().err
    assert contents(predict(tiny.images, '--threads', '0', '--resume')) == expected
    assert drawn == ['07.png', '11.jpg', '12.png']
    assert not (tmp_path / 'results/out.unfinished').exists()


def test_arguments_that_make_no_sense(predict: Callable, tiny: TinyModel, capsys: pytest.CaptureFixture):
    for flag, value, least in (('--batch-size', '0', 1), ('--threads', '-1', 0), ('--tile', '0', 1)):
        with pytest.raises(SystemExit):
            predict(tiny.images, flag, value)
        assert f'{value} is below {least} ({flag})' in capsys.readouterr().err
