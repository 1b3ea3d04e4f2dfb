"""tools/submit.py: from a list of images, a config and a checkpoint to the files of a test server."""

import errno
import filecmp
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from fixtures.tiny_model import TinyModel, write_tiny_model
from fixtures.tiny_run import run_tool
from helpers.image_list import NAMES, THINGS, write_list
from helpers.repo import CONFIGS, load_tool, run_main
from mmengine.config import Config

from mmpanoptic.apis import load_model
from mmpanoptic.datasets.shapes.categories import CATEGORIES
from mmpanoptic.formats.panoptic_json import dataset_meta, parse_categories
from mmpanoptic.submission import files
from mmpanoptic.utils import UserError

TOOL = load_tool('submit')
STEM = 'panoptic_test-dev2017_ours_results'


@pytest.fixture(scope='module')
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    """A panoptic model, and ``list.json`` beside it."""
    made = write_tiny_model(tmp_path_factory.mktemp('tiny'))
    write_list(made.images.parent / 'list.json', THINGS)
    return made


@pytest.fixture
def run(tiny: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Runs the tool in this process; returns OUT."""

    def call(*args: object, out: Path = tmp_path / 'out', model: TinyModel = tiny, images: Path = tiny.images) -> Path:
        places = '--list', tiny.images.parent / 'list.json', '--images', images, '--name', 'ours'
        run_main(
            TOOL, monkeypatch, model.config, model.checkpoint, out, '--to', 'coco-test-dev', *places,
            '--work-dir', tmp_path / 'work', '--cfg-options', 'test_dataloader.num_workers=0', *args,
        )  # fmt: skip
        return out

    return call


def assert_same_files(one: Path, other: Path) -> None:
    names = sorted(str(path.relative_to(one)) for path in one.rglob('*') if path.is_file())
    assert names == sorted(str(path.relative_to(other)) for path in other.rglob('*') if path.is_file())
    assert filecmp.cmpfiles(one, other, names, shallow=False) == (names, [], [])


@pytest.mark.slow
def test_it_is_what_the_test_predicts(run, tiny, tmp_path, monkeypatch):
    """With test-time augmentation: the same segments and maps as of tools/test.py, whose list says what things are."""
    out = run('--tta')
    listed = write_list(tmp_path / 'panoptic.json', list(CATEGORIES))
    places = f'ann_file={listed}', f'data_prefix.img={tiny.images}'
    run_main(
        load_tool('test'), monkeypatch, tiny.config, tiny.checkpoint, '--tta', '--work-dir', tmp_path / 'work',
        '--cfg-options', *(f'test_dataloader.dataset.{place}' for place in places), 'test_dataloader.num_workers=0',
        'test_evaluator.format_only=True', f'test_evaluator.outfile_prefix={tmp_path}/test',
    )  # fmt: skip
    contents = [json.loads(path.read_text()) for path in (out / f'{STEM}.json', tmp_path / 'test.panoptic.json')]
    assert contents[0]['annotations'] == contents[1]['annotations']
    assert [one['image_id'] for one in contents[0]['annotations']] == list(NAMES)
    assert sum(len(one['segments_info']) for one in contents[0]['annotations']) > 6
    for name in ('12.png', '07.png', '11.png'):
        assert (out / STEM / name).read_bytes() == (tmp_path / 'test.panoptic' / name).read_bytes()
    with zipfile.ZipFile(out / f'{STEM}.zip') as file:
        assert file.namelist() == [f'{STEM}.json', *(f'{STEM}/{name}' for name in ('12.png', '07.png', '11.png'))]


@pytest.mark.slow
def test_same_bytes_on_two_processes(run, tiny, tmp_path):
    two = tmp_path / 'two'
    done = run_tool(
        'submit.py', tiny.config, tiny.checkpoint, two, '--to', 'coco-test-dev', '--gpus', '2', '--name', 'ours',
        '--list', tiny.images.parent / 'list.json', '--images', tiny.images, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count('read back without fault') == 1, 'one process writes'
    assert_same_files(run(), two)
    assert not list(tmp_path.glob('*.predictions'))


@pytest.mark.slow
def test_nothing_that_is_predicted_is_lost(run, tiny, tmp_path, monkeypatch):
    """A broken image, then a full disk: each run goes on where the last one ended, and the files are those of one."""
    images = tmp_path / 'images'
    shutil.copytree(tiny.images, images)
    good = (images / '11.jpg').read_bytes()
    (images / '11.jpg').write_bytes(good[:200])
    out, kept = tmp_path / 'out', tmp_path / 'out.predictions'
    with pytest.raises(UserError, match=r'11.jpg is truncated .*; what is predicted is kept in .*out.predictions: the'):
        run(images=images)
    assert sorted(path.name for path in kept.glob('0*')) == ['000000.json', '000001.json']

    other = torch.load(tiny.checkpoint)
    next(iter(other['state_dict'].values()))[0] += 1
    torch.save(other, tmp_path / 'other.pth')
    with pytest.raises(UserError, match='another checkpoint: remove the folder to predict again, or name another OUT'):
        run(model=TinyModel(tiny.config, str(tmp_path / 'other.pth'), images), images=images)

    (images / '11.jpg').write_bytes(good)
    times = [path.stat().st_mtime_ns for path in sorted(kept.glob('0*'))]
    with monkeypatch.context() as patch:
        patch.setattr(files, 'write_zip', full_disk)
        with pytest.raises(UserError, match=r'out cannot be written \(No space left on device\); what is predicted is'):
            run(images=images)
    assert [path.stat().st_mtime_ns for path in sorted(kept.glob('0*'))][:2] == times and len(
        list(kept.glob('0*'))
    ) == 3
    assert not out.exists()

    with monkeypatch.context() as patch:
        patch.setattr('mmpanoptic.submission.steps.build_runner', no_model)
        run(images=images)
    assert not kept.exists()
    assert_same_files(out, run(out=tmp_path / 'at_once', images=images))


def full_disk(*args: object) -> None:
    raise OSError(errno.ENOSPC, 'No space left on device')


def no_model(*args: object) -> None:
    raise AssertionError('a model is built')


@pytest.mark.parametrize(
    ('options', 'reason'),
    [
        (['--images', 'nowhere'], '--images: nowhere is no folder'),
        (['--list', 'nowhere.json'], '--list nowhere.json does not exist'),
        (['--name', 'a b'], '--name a b: give letters'),
        (['--gpus', '2', '--launcher', 'slurm'], '--gpus 2: --launcher slurm says how many processes there are'),
        (['--gpus', '0'], '--gpus 0: give a number from 1'),
        (['--to', 'cityscapes'], '--list .*list.json: the images of cityscapes are those of a folder'),
        (['--tta', '--cfg-options', 'tta_model=None'], '--tta: the config has no tta_model'),
    ],
)
def test_errors_before_a_model_is_built(options, reason, run, monkeypatch):
    monkeypatch.setattr('mmpanoptic.submission.steps.build_runner', no_model)
    with pytest.raises(UserError, match=reason):
        run(*options)


def test_classes_and_images_are_compared_before(run, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr('mmpanoptic.submission.steps.build_runner', no_model)
    wrong = write_list(tmp_path / 'wrong.json', [*THINGS[:-1], dict(THINGS[-1], name='lorry')])
    with pytest.raises(
        UserError, match=rf"category {THINGS[-1]['id']} is 'lorry' in .*wrong.json and '{THINGS[-1]['name']}' in"
    ):
        run('--list', wrong)
    (tmp_path / 'some').mkdir()
    shutil.copy(tiny.images / '12.png', tmp_path / 'some')
    with pytest.raises(UserError, match=r'some lacks 2 of the 3 images of .*list.json: 07.png, 11.jpg: unpack'):
        run(images=tmp_path / 'some')
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out/mine.txt').touch()
    with pytest.raises(UserError, match=r'OUT: .*out is not empty'):
        run()
    assert not list(tmp_path.glob('*.predictions'))


@pytest.fixture(scope='module')
def instances(tmp_path_factory: pytest.TempPathFactory, tiny: TinyModel) -> TinyModel:
    """PANet's baseline of instances, with random weights."""
    root = tmp_path_factory.mktemp('instances')
    config = root / 'tiny.py'
    config.write_text(
        f'_base_ = {str(CONFIGS / "panet/mask-rcnn_r18_fpn_shapes.py")!r}\n'
        'model = dict(backbone=dict(init_cfg=None), test_cfg=dict(rpn=dict(max_per_img=30), rcnn=dict('
        'score_thr=0.0, max_per_img=5)))\n'
    )
    torch.manual_seed(0)
    model, _ = load_model(Config.fromfile(config), device='cpu')
    meta = dataset_meta(parse_categories([one for one in CATEGORIES if one['isthing']], 'categories'))
    torch.save(dict(state_dict=model.state_dict(), meta=dict(dataset_meta=meta)), root / 'tiny.pth')
    return TinyModel(str(config), str(root / 'tiny.pth'), tiny.images)


@pytest.mark.slow
def test_boxes_and_masks(run, instances, tiny, tmp_path, monkeypatch):
    """The same boxes, masks and scores as tools/test.py writes."""
    out = run(model=instances)
    listed = tiny.images.parent / 'list.json'
    places = f'ann_file={listed}', f'data_prefix.img={tiny.images}'
    run_main(
        load_tool('test'), monkeypatch, instances.config, instances.checkpoint, '--work-dir', tmp_path / 'work',
        '--cfg-options', *(f'test_dataloader.dataset.{place}' for place in places), 'test_dataloader.num_workers=0',
        f'test_evaluator.ann_file={listed}', 'test_evaluator.format_only=True',
        f'test_evaluator.outfile_prefix={tmp_path}/test',
    )  # fmt: skip
    for kind, key in (('bbox', 'bbox'), ('segm', 'segmentation')):
        found = json.loads((out / kind / 'detections_test-dev2017_ours_results.json').read_text())
        wanted = json.loads((tmp_path / f'test.{kind}.json').read_text())
        names = 'image_id', 'category_id', 'score', key
        assert found == [{name: one[name] for name in names} for one in wanted] and len(found) == 15
