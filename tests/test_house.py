"""The order of the house: who imports whom, how long files and functions are, what is public."""

import ast
import importlib
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / 'mmpanoptic'
# Rooms, from the ground up: each may import itself and those of the rows before its own (docs/architecture.md).
FLOORS = (
    ('utils', 'drawing'),
    ('registry', 'results'),
    ('structures',),
    ('formats',),
    ('datasets', 'importers', 'exporters', 'models', 'evaluation', 'visualization'),
    ('engine',),
    ('apis', 'deploy', 'analysis', 'report'),
    ('submission',),
)
# The same inside of models/.
MODEL_FLOORS = (
    ('layers', 'task_modules'),
    ('losses',),
    ('fusion',),
    ('necks', 'dense_heads', 'roi_heads', 'seg_heads'),
    ('detectors',),
    ('test_time_augs',),
)
MAX_FILE, MAX_FUNCTION = 300, 60


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob('*.py'))


def imported_modules(path: Path) -> Iterator[str]:
    """Modules of this package that a file imports, anywhere in it, as 'room.file' without the package's name."""
    here = ('mmpanoptic', *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = '.'.join(here[: len(here) - node.level + 1]) if node.level else ''
            module = '.'.join(part for part in (base, node.module) if part)
            names = [f'{module}.{alias.name}' for alias in node.names]
        else:
            continue
        yield from (name.removeprefix('mmpanoptic.') for name in names if name.startswith('mmpanoptic.'))


def floor_of(room: str, floors: tuple[tuple[str, ...], ...]) -> int:
    return next(index for index, rooms in enumerate(floors) if room in rooms)


def upward(path: Path) -> list[str]:
    """Imports of a file that go up, or to another room of the same floor."""
    parts = path.relative_to(PACKAGE).with_suffix('').parts
    found = []
    for name in imported_modules(path):
        other = name.split('.')
        if parts[0] in ('__init__', '__main__'):
            continue
        if other[0] == parts[0] == 'models':
            if parts[1] == '__init__':  # it gathers all of them
                continue
            rooms, floors = (parts[1], other[1] if len(other) > 1 else ''), MODEL_FLOORS
            if not any(rooms[1] in row for row in floors):  # mmpanoptic.models itself
                found.append(name)
                continue
        else:
            rooms, floors = (parts[0], other[0]), FLOORS
        if rooms[0] != rooms[1] and floor_of(rooms[1], floors) >= floor_of(rooms[0], floors):
            found.append(name)
    return found


def test_every_room_has_a_floor():
    rooms = {path.relative_to(PACKAGE).with_suffix('').parts[0] for path in sources()} - {'__init__', '__main__'}
    assert rooms == {room for row in FLOORS for room in row}
    model_rooms = {path.parent.name for path in PACKAGE.glob('models/*/__init__.py')}
    assert model_rooms == {room for row in MODEL_FLOORS for room in row}


def test_the_page_lists_the_rooms_in_their_order(repo_root):
    rows = re.findall(r'^\| (\d) \| `(\w+)[/.]', (repo_root / 'docs/architecture.md').read_text(), re.MULTILINE)
    assert [(int(row), room) for row, room in rows] == [
        (index, room) for index, rooms in enumerate(FLOORS, 1) for room in rooms
    ]


@pytest.mark.parametrize('path', sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path):
    assert upward(path) == []


@pytest.mark.parametrize(
    ('place', 'line'),
    [
        ('structures/x.py', 'from mmpanoptic.models import CIAE'),
        ('structures/x.py', 'from ..models import CIAE'),
        ('structures/x.py', 'import mmpanoptic.engine.cli'),
        ('datasets/x.py', 'from mmpanoptic.visualization import draw'),
        ('models/fusion/paste/x.py', 'from mmpanoptic.models import CIAE'),
        ('models/fusion/paste/x.py', 'from ...detectors import CIAE'),
        ('models/seg_heads/x.py', 'from mmpanoptic.models.dense_heads.ciae_head import f'),
    ],
)
def test_an_import_upward_is_seen(place, line, tmp_path, monkeypatch):
    """The check itself."""
    monkeypatch.setattr('test_house.PACKAGE', tmp_path)
    path = tmp_path / place
    path.parent.mkdir(parents=True)
    path.write_text(line)
    assert len(upward(path)) == 1


@pytest.mark.parametrize('path', sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_and_functions_are_short(path):
    text = path.read_text()
    assert len(text.splitlines()) <= MAX_FILE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno - node.lineno + 1 <= MAX_FUNCTION, node.name


# What users may rely on; a name that goes is an entry in the CHANGELOG.
PUBLIC = {
    'mmpanoptic.apis': 'Observation PanopticInferencer PanopticResult frames_of list_images load_model',
    'mmpanoptic.datasets': (
        'CityscapesPanopticDataset CocoDataset CocoInstanceDataset CocoPanopticDataset ConcatDataset '
        'MapillaryVistasDataset MultiImageMixDataset RepeatDataset steps_of'
    ),
    'mmpanoptic.datasets.shapes': 'CATEGORIES SPLITS Scene Segment render_scene scene_rng write_dataset write_split',
    'mmpanoptic.datasets.transforms': (
        'LoadAnnotations LoadImageFromFile LoadPanopticAnnotations PackPanopticInputs PanopticCopyPaste RandomFlip '
        'Resize TestTimeAug'
    ),
    'mmpanoptic.deploy': 'OnnxPanoptic',
    'mmpanoptic.engine.hooks': (
        'BranchGradientHook CheckpointHook ClassTransferHook FiniteLossHook LoggerHook PanopticCheckHook '
        'PanopticVisualizationHook RankingConflictHook SpeedHook StopHook SyncBuffersHook branch_gradients'
    ),
    'mmpanoptic.evaluation.metrics': (
        'CityscapesInstanceMetric InstanceMetric KeptPanoptic MapillaryResults PanopticIoUMetric PanopticMetric '
        'PredictionDump'
    ),
    'mmpanoptic.exporters': 'Item Options PanopticFiles TARGETS Target export',
    'mmpanoptic.importers': (
        'Format LabelledImage Labels LeftOut ORDERS Plan READERS REPORT Shape WAYS decide given_classes split_names '
        'write_dataset'
    ),
    'mmpanoptic.models.dense_heads': (
        'CIAEProposalHead CIAEProposals DetectronRPNHead SpatialFlowHead SpatialFlowOutputs'
    ),
    'mmpanoptic.models.detectors': 'CIAE OANet PanopticDetector PanopticFPN SpatialFlow',
    'mmpanoptic.models.fusion': (
        'BaseFusionHead BoxFillFusion EmbeddingFusion HeuristicFusion RankingFusion SpatialRankingModule'
    ),
    'mmpanoptic.models.fusion.embedding': 'EmbeddingFusion',
    'mmpanoptic.models.fusion.paste': 'BoxFillFusion HeuristicFusion',
    'mmpanoptic.models.fusion.ranking': 'RankingFusion SpatialRankingModule',
    'mmpanoptic.models.layers': (
        'AdaptivePooling CategoryMemory CoordConvModule FCModule assigned_levels count_sources scheduled_momentum'
    ),
    'mmpanoptic.models.losses': (
        'CIAELoss EMBEDDING_STRIDE EmbeddingTargets embedding_targets enlarge_boxes hardest_queries_loss mean_queries '
        'segment_sums'
    ),
    'mmpanoptic.models.necks': 'PAFPN',
    'mmpanoptic.models.roi_heads.bbox_heads': 'AdaptivePoolingBBoxHead',
    'mmpanoptic.models.roi_heads.mask_heads': 'FCFusionMaskHead',
    'mmpanoptic.models.roi_heads.roi_extractors': 'AllLevelRoIExtractor',
    'mmpanoptic.models.seg_heads': 'CIAEHead CIAEOutputs OANetStuffHead PanopticFPNHead SpatialFlowStuffHead',
    'mmpanoptic.models.task_modules': 'DetectronAnchorGenerator DetectronBBoxCoder',
    'mmpanoptic.models.test_time_augs': 'InstanceTTAModel PanopticTTAModel View',
    'mmpanoptic.report': 'ReportOfTest build_report choose_images contents_of pictures_of plotly_script render_page',
    'mmpanoptic.results': 'Instances PanopticResult RATINGS Segment',
    'mmpanoptic.structures': (
        'EmbeddingMap Evidence INSTANCE_OFFSET MAX_ID Stuff StuffLabels StuffLogits VOID_ID id_to_rgb ids_to_indices '
        'labels_of_ids panoptic_to_coco rgb_to_id segments_of_map'
    ),
    'mmpanoptic.submission': 'Places Submission TARGETS Target plan submit',
    'mmpanoptic.utils': (
        'DatasetError UserError WriteError check_replaceable check_storage find_config is_local one_line part_of '
        'read_bytes remove_whole require_choice require_file require_folder shipped sole_writer tracked_map whole_file '
        'whole_folder write_whole'
    ),
    'mmpanoptic.visualization': 'PanopticVisualizer',
}


@pytest.mark.parametrize('module', PUBLIC)
def test_public_names(module):
    found = importlib.import_module(module)
    assert sorted(found.__all__) == PUBLIC[module].split()
    assert all(hasattr(found, name) for name in found.__all__)


def test_names_of_test_modules_are_their_own(repo_root):
    """pytest imports them by name alone, as the folders are no packages."""
    names = Counter(path.name for path in (repo_root / 'tests').rglob('test_*.py'))
    assert not [name for name, number in names.items() if number > 1]
