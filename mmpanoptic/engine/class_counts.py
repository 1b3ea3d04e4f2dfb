"""Numbers of classes that a config takes from the data.

``num_things_classes``, ``num_stuff_classes`` and ``num_classes`` (of things) of any part of a model may be 'auto'. They
are replaced by numbers before the model is built, so that everything that is built, dumped or saved holds numbers.
"""

import contextlib
import copy
import inspect
import logging
from collections.abc import Iterator, Mapping
from typing import Any

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
    """The ``model`` of a config with numbers in place of 'auto'.

    Numbers in the config stay, and are compared with the data when a run starts. If there is no thing class, Panoptic
    FPN loses its heads for things; if there is only one, HeuristicFusion replaces RankingFusion.

    Args:
        config: The config, which is not changed.
        loaders: Keys of the data loaders whose classes are counted; the first one that can be read counts.
        meta: ``dataset_meta`` of a checkpoint, which is preferred.

    Raises:
        UserError: If a number is 'auto' and no data can be read (the reason is that of the first loader), or if there
            is no thing class and the model detects things only.
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
    """Remove, in place, the heads for things.

    Raises:
        UserError: If the model is not a Panoptic FPN with HeuristicFusion.
    """
    detector = model.get('module', model)  # test-time augmentation wraps the detector
    kinds = detector.get('type'), (detector.get('panoptic_fusion_head') or {}).get('type')
    if kinds != ('PanopticFPN', 'HeuristicFusion'):
        raise UserError(
            f'no class is a thing, and {detector.get("type")} finds things: mark classes as things (isthing 1 in the '
            'JSON), or train stuff alone by Panoptic FPN (starter/panoptic-fpn_r18_fpn.py)'
        )
    detector.update(rpn_head=None, roi_head=None)


def _without_ranking(model: ConfigDict) -> None:
    """Replace RankingFusion, in place, by HeuristicFusion: with one thing class there is nothing to rank."""
    detector = model.get('module', model)
    head = detector.get('panoptic_fusion_head') or {}
    if head.get('type') == 'RankingFusion':
        known = inspect.signature(HeuristicFusion).parameters
        kept = {key: value for key, value in head.items() if key in known}
        detector.panoptic_fusion_head = ConfigDict(kept, type='HeuristicFusion')
        print_log('a single thing class leaves nothing to rank: HeuristicFusion orders by score', 'current')


def _counts_of(meta: Mapping) -> dict[str, int] | None:
    """Numbers of thing and stuff classes of a ``metainfo``; None if it does not tell things from stuff."""
    things, stuff = meta.get('thing_classes'), meta.get('stuff_classes') or ()
    if not isinstance(things, (list, tuple)) or not isinstance(stuff, (list, tuple)):
        return None
    return dict(things=len(things), stuff=len(stuff))


def _counts_of_data(config: Config, loaders: tuple[str, ...], key: str) -> dict[str, int]:
    """Numbers of classes of the first dataset that can be read; all are thing classes if it does not tell.

    Raises:
        UserError: If no dataset can be read.
    """
    problem = None
    for loader in loaders:
        if not (config.get(loader) or {}).get('dataset'):
            continue
        try:
            changes: dict[str, Any] = dict(pipeline=[], filter_cfg=None, **_no_instances(config, loader))
            with _silent():
                meta = build_dataset(config, loader, **changes).metainfo
            return _counts_of(meta) or dict(things=len(meta['classes']), stuff=0)
        except UserError as error:
            problem = problem or error
        except KeyError:
            problem = problem or UserError(f'{loader}.dataset names no classes')
    reason = problem or f'the config has no {" and no ".join(loaders)}'
    raise UserError(f'{key} is {AUTO!r}, and the data for it cannot be read: {reason}; or set the number')


def _no_instances(config: Config, loader: str) -> dict[str, None]:
    """A change to a dataset config that leaves out the instances JSON, which is not needed to count classes."""
    datasets = inner_datasets(config[loader].dataset)
    return dict(inst_ann_file=None) if any('inst_ann_file' in dataset for dataset in datasets) else {}


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Suppress the notices of a dataset; the run gives them when it reads the dataset again."""
    before = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(before)
