"""Numbers of classes that a config leaves to the data.

``num_things_classes``, ``num_stuff_classes`` and ``num_classes`` (of things) of any part of a model may be 'auto'. A
number stands there before the model is built, so that whatever is built, dumped or saved holds numbers.
"""

import contextlib
import copy
import inspect
import logging
from collections.abc import Iterator, Mapping

from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log

from mmpanoptic.datasets.wrappers import inner_datasets
from mmpanoptic.models.fusion import HeuristicFusion
from mmpanoptic.utils import UserError

from .components import build_dataset, nodes
from .data_places import AUTO

# Keys of numbers of classes, and which classes they count.
_COUNTED = {'num_things_classes': 'things', 'num_classes': 'things', 'num_stuff_classes': 'stuff'}


def counted_model(config: Config, loaders: tuple[str, ...], meta: Mapping | None = None) -> ConfigDict:
    """The ``model`` of a config with a number in place of each number of classes that is 'auto'.

    Numbers that the config states stay, and are compared with the data when a run starts. Where no class is a thing,
    Panoptic FPN has no heads for things; where a single one is, fusion ranks nothing.

    Args:
        config: The config; it stays as it is.
        loaders: Keys of the data loaders that are asked for their classes, the first one that can be read.
        meta: ``dataset_meta`` of a checkpoint, which is asked first.

    Raises:
        UserError: If there is such a number, and no data can be read (the reason is that of the first loader), or no
            class is a thing and the model finds nothing else.
    """
    model = copy.deepcopy(config.get('model'))
    automatic = [(path, node, key) for path, node in nodes(model, 'model') for key in _COUNTED if node.get(key) == AUTO]
    if automatic:
        path, _, key = automatic[0]
        counts = _counts_of(meta or {}) or _counts_of_data(config, loaders, f'{path}.{key}')
    for _, node, key in automatic:
        node[key] = counts[_COUNTED[key]]
    if automatic and counts['things'] == 0:
        _without_things(model)
    if automatic and counts['things'] == 1:
        _without_ranking(model)
    return model


def _without_things(model: ConfigDict) -> None:
    """Leave out, in place, what finds things.

    Raises:
        UserError: If nothing is left.
    """
    detector = model.get('module', model)  # inside of test-time augmentation
    kinds = detector.get('type'), (detector.get('panoptic_fusion_head') or {}).get('type')
    if kinds != ('PanopticFPN', 'HeuristicFusion'):
        raise UserError(
            f'no class is a thing, and {detector.get("type")} finds things: mark classes as things (isthing 1 in the '
            'JSON), or train stuff alone by Panoptic FPN (starter/panoptic-fpn_r18_fpn.py)'
        )
    detector.update(rpn_head=None, roi_head=None)


def _without_ranking(model: ConfigDict) -> None:
    """Order instances by their scores, in place, where a ranking between classes has nothing to do."""
    detector = model.get('module', model)
    head = detector.get('panoptic_fusion_head') or {}
    if head.get('type') == 'RankingFusion':
        known = inspect.signature(HeuristicFusion).parameters
        kept = {key: value for key, value in head.items() if key in known}
        detector.panoptic_fusion_head = ConfigDict(kept, type='HeuristicFusion')
        print_log('a single thing class leaves nothing to rank: HeuristicFusion orders by score', 'current')


def _counts_of(meta: Mapping) -> dict[str, int] | None:
    """Numbers of classes of a ``metainfo`` that tells things from stuff."""
    things, stuff = meta.get('thing_classes'), meta.get('stuff_classes') or ()
    if not isinstance(things, (list, tuple)) or not isinstance(stuff, (list, tuple)):
        return None
    return dict(things=len(things), stuff=len(stuff))


def _counts_of_data(config: Config, loaders: tuple[str, ...], key: str) -> dict[str, int]:
    """Numbers of classes of the first dataset that can be read; all are things where it does not tell.

    Raises:
        UserError: If none can be.
    """
    problem = None
    for loader in loaders:
        if not (config.get(loader) or {}).get('dataset'):
            continue
        try:
            changes = dict(pipeline=[], filter_cfg=None, **_no_instances(config, loader))
            with _silent():
                meta = build_dataset(config, loader, **changes).metainfo
            return _counts_of(meta) or dict(things=len(meta['classes']), stuff=0)
        except UserError as error:
            problem = problem or error
        except KeyError:
            problem = problem or UserError(f'{loader}.dataset names no classes')
    reason = problem or f'the config has no {" and no ".join(loaders)}'
    raise UserError(f'{key} is {AUTO!r}, to be that of the data, which cannot be read: {reason}; or set the number')


def _no_instances(config: Config, loader: str) -> dict[str, None]:
    """A change of a dataset for its classes alone: masks that overlap are not needed."""
    datasets = inner_datasets(config[loader].dataset)
    return dict(inst_ann_file=None) if any('inst_ann_file' in dataset for dataset in datasets) else {}


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Without the notices of a dataset, which the run gives when it reads it again."""
    before = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(before)
