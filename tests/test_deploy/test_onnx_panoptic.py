"""What runs an ONNX file, and what refuses to write one."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from fixtures.tiny_run import run_tool, tool_env
from helpers.deployed import CATEGORIES, Deployed, blots, deploy
from helpers.repo import ROOT
from mmengine.config import Config

from mmpanoptic.apis import load_model
from mmpanoptic.deploy import OnnxPanoptic
from mmpanoptic.deploy.checks import preparation_of, require_exportable
from mmpanoptic.deploy.graph.image import resize_bytes
from mmpanoptic.engine.configs import load_config
from mmpanoptic.utils import UserError

pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')

PANOPTIC_FPN = 'panoptic_fpn/panoptic-fpn_r18_fpn_shapes'
ALONE = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in ('torch', 'mmcv', 'mmdet', 'mmengine', 'cv2', 'PIL', 'pycocotools', 'rich'):
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)
sys.meta_path.insert(0, Blocked())
import numpy as np
from mmpanoptic.deploy import OnnxPanoptic
result = OnnxPanoptic(sys.argv[1], threads=1)(np.load(sys.argv[2]))
np.save(sys.argv[3], result.id_map)
print([(segment['id'], segment['category_id'], segment['area']) for segment in result.coco_segments()])
"""


@pytest.fixture(scope='module')
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    return deploy(PANOPTIC_FPN, tmp_path_factory.mktemp('onnx') / 'model.onnx')


def test_it_takes_numpy_and_onnxruntime_alone(deployed: Deployed, tmp_path: Path):
    image = blots(51, 90)
    np.save(tmp_path / 'image.npy', image)
    env = tool_env(PYTHONPATH=os.environ.get('PYTHONPATH', ''))
    command = [sys.executable, '-c', ALONE, deployed.path, tmp_path / 'image.npy', tmp_path / 'map.npy']
    done = subprocess.run(list(map(str, command)), env=env, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    result = deployed.session()(image)
    assert np.array_equal(np.load(tmp_path / 'map.npy'), result.id_map)
    expected = [(one.id, CATEGORIES[one.label]['id'], one.area) for one in result.segments]
    assert done.stdout.strip() == str(expected)


def test_the_file_tells_classes_preprocessing_and_thresholds(deployed: Deployed):
    metadata = deployed.session().metadata
    assert metadata['categories'] == CATEGORIES
    assert metadata['preprocessing']['scale'] == [144, 96]
    assert metadata['preprocessing']['mean'] == pytest.approx([123.675, 116.28, 103.53])
    assert metadata['thresholds']['fusion'] == dict(
        type='HeuristicFusion', score_thr=0.1, overlap_thr=0.5, stuff_area_limit=64
    )
    assert metadata['thresholds']['test_cfg']['rcnn']['score_thr'] == 0.05
    assert metadata['size'] is None


@pytest.mark.parametrize(
    ('image', 'message'),
    [
        (np.zeros((4, 5, 3), np.float32), r'uint8 of shape \(height, width, 3\), RGB, not float32'),
        (np.zeros((4, 5), np.uint8), r'not uint8 of shape \(4, 5\)'),
        ('image.png', r'RGB, not str'),
        (np.zeros((0, 5, 3), np.uint8), '0x5 pixels has none'),
    ],
)
def test_what_is_no_image(deployed: Deployed, image: object, message: str):
    with pytest.raises(UserError, match=message):
        deployed.session()(image)


def test_what_is_no_file_of_ours(tmp_path: Path):
    with pytest.raises(UserError, match=r'model\.onnx does not exist'):
        OnnxPanoptic(tmp_path / 'model.onnx')
    (tmp_path / 'model.onnx').write_bytes(b'nothing')
    with pytest.raises(UserError, match=r'model\.onnx cannot be run by onnxruntime .*export-onnx'):
        OnnxPanoptic(tmp_path / 'model.onnx')
    onnx = pytest.importorskip('onnx')
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in 'xy']
    graph = onnx.helper.make_graph([onnx.helper.make_node('Neg', ['x'], ['y'])], 'g', values[:1], values[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid('', 17)], ir_version=8)
    onnx.save(model, tmp_path / 'model.onnx')
    with pytest.raises(UserError, match=r'model\.onnx has no metadata of mmpanoptic.*export-onnx'):
        OnnxPanoptic(tmp_path / 'model.onnx')


@pytest.mark.parametrize(
    ('name', 'options', 'message'),
    [
        (
            'panoptic_fpn/panoptic-fpn_r18_fpn_shapes',
            {'model.panoptic_fusion_head.stuff_area_mode': 'component'},
            "PanopticFPN cannot be exported: stuff_area_mode 'component'.*'segment'",
        ),
        (
            'panoptic_fpn/panoptic-fpn_r18_fpn_shapes',
            {'model.test_cfg.rcnn.nms.type': 'soft_nms'},
            'suppression by .*soft_nms.*iou_threshold',
        ),
        ('ciae/ciae_r18_fpn_shapes', {'model.oracle': True}, 'CIAE cannot be exported: its oracle'),
        ('panet/panet_r18_fpn_shapes', {}, 'cannot be exported: Panoptic FPN, OANet, SpatialFlow and CIAE can'),
    ],
)
def test_what_cannot_be_exported_is_named(name: str, options: dict, message: str):
    model, _ = load_model(load_config(f'{name}.py', options), device='cpu')
    with pytest.raises(UserError, match=message):
        require_exportable(model)


def test_pipelines_that_cannot_be_exported_are_named(deployed: Deployed):
    def changed(**step: object) -> Config:
        config = Config(deployed.config.to_dict())
        config.test_dataloader.dataset.pipeline[1] = step
        return config

    for step, message in (
        (dict(type='Resize', scale_factor=2.0), r'Resize\(scale_factor=2\.0\) cannot be exported: give a scale'),
        (dict(type='Pad', size_divisor=32), 'Pad cannot be exported'),
    ):
        with pytest.raises(UserError, match=message):
            preparation_of(deployed.model, changed(**step))


@pytest.mark.parametrize('height, width, rows, columns', [(90, 51, 33, 70), (40, 60, 20, 30), (37, 91, 200, 160)])
def test_bytes_are_resized_as_opencv_does(height: int, width: int, rows: int, columns: int):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    sizes = map(torch.tensor, (height, width, rows, columns))
    assert np.array_equal(
        resize_bytes(torch.from_numpy(image), *sizes).numpy(), cv2.resize(image, (columns, rows)).astype(np.float32)
    )


OPTIONS = (
    '--cfg-options',
    'model.panoptic_fusion_head.score_thr=0.1',
    'model.panoptic_fusion_head.stuff_area_limit=64',
    'test_dataloader.dataset.pipeline.resize.scale=(144,96)',
)


@pytest.fixture(scope='module')
def checkpoint(deployed: Deployed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of the model, as a training writes them."""
    categories = [dict(one, label=label) for label, one in enumerate(CATEGORIES)]
    meta = dict(dataset_meta=dict(classes=[one['name'] for one in CATEGORIES], categories=categories))
    path = tmp_path_factory.mktemp('weights') / 'model.pth'
    torch.save(dict(state_dict=deployed.model.state_dict(), meta=meta), path)
    return path


def test_the_tool(deployed: Deployed, checkpoint: Path, tmp_path: Path):
    arguments = f'{PANOPTIC_FPN}.py', checkpoint, 'model.onnx', '--size', 96, 144, *OPTIONS
    done = run_tool(
        'misc/export_onnx.py', *arguments, cwd=tmp_path, env=tool_env(PYTHONPATH=os.environ.get('PYTHONPATH', ''))
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith('model.onnx: ')
    assert 'Warning' not in done.stderr
    image = blots(96, 144)
    result = OnnxPanoptic(tmp_path / 'model.onnx', threads=1)(image)
    assert np.mean(result.id_map == deployed.session()(image).id_map) >= 0.999
    assert [category['id'] for category in result.categories] == [one['id'] for one in CATEGORIES]


def test_the_tool_that_compares(deployed: Deployed, checkpoint: Path, tmp_path: Path):
    """Counts are those of the file's results, segment by segment; a folder and no image are told at once."""
    (tmp_path / 'images').mkdir()
    images = [blots(51, 90), blots(96, 144)]
    for number, image in enumerate(images):
        cv2.imwrite(str(tmp_path / f'images/{number}.png'), image[..., ::-1])
    arguments = ('analysis_tools/compare_onnx.py', f'{PANOPTIC_FPN}.py', checkpoint, deployed.path, 'images')
    env = tool_env(PYTHONPATH=os.environ.get('PYTHONPATH', ''))
    done = run_tool(*arguments, '--out', 'all.json', *OPTIONS, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    segments = [segment for image in images for segment in deployed.session()(image).segments]
    things = sum(segment.isthing for segment in segments)
    found = json.loads((tmp_path / 'all.json').read_text())
    assert 0 < things < len(segments)
    for kind, count in (('things', things), ('stuff', len(segments) - things)):
        assert found[kind]['in_both'] == found[kind]['scored'] == count
        assert found[kind]['score'] < 1e-5
        assert [found[kind][name] for name in ('other_class', 'first_alone', 'second_alone')] == [0, 0, 0]
        assert found[kind]['box'] == 0
        assert found[kind] == {
            name: (max if name in ('score', 'box') else sum)(image[kind][name] for image in found['images'])
            for name in found[kind]
        }
    assert found['same_segments'] == len(found['images']) == 2
    assert '2 images: the same segments in 2 of them; the same pixels: 100.0000%, at least 100.0000%' in done.stdout
    assert f'{found["things"]["score"]:.1e}' in done.stdout
    for kind, unit in (('seconds', '\ns/image'), ('cpu_seconds', '\nCPU s/image')):
        of_model, of_file = (found[f'{name}_{kind}'] for name in ('model', 'file'))
        assert of_file == np.mean([image[f'file_{kind}'] for image in found['images']]) > 0
        assert f'{unit}: {of_model:.3f} model, {of_file:.3f} file, {of_file / of_model:.2f} of it\n' in done.stdout
    for wrong, line in (
        (('--limit', 0), 'error: --limit 0: at least one image is needed'),
        (('--out', 'images'), 'error: --out images is a folder: name a file'),
    ):
        done = run_tool(*arguments, *wrong, cwd=tmp_path, env=env)
        assert (done.returncode, done.stderr.strip()) == (1, line)


def test_sizes():
    parse_size = runpy.run_path(str(ROOT / 'tools/misc/export_onnx.py'))['parse_size']
    assert parse_size(['dynamic']) is None
    assert parse_size(['480', '640']) == (480, 640)
    for words in (['480'], ['0', '640'], ['480', 'dynamic']):
        with pytest.raises(UserError, match=f"--size {' '.join(words)}: give height and width .*480 640, or 'dynamic'"):
            parse_size(words)
