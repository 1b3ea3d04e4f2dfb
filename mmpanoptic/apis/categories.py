"""Names, ids and colours of the classes of a trained model."""

import os.path as osp
from typing import Any

from mmdet.visualization import get_palette
from mmengine.config import Config

from mmpanoptic.datasets.wrappers import inner_datasets
from mmpanoptic.engine.checkpoints import class_names
from mmpanoptic.formats.coco_categories import coco_meta
from mmpanoptic.formats.instances_json import parse_things, with_used_categories
from mmpanoptic.formats.panoptic_json import dataset_meta, parse_categories, read_json
from mmpanoptic.utils import UserError

SPLITS = ('test', 'val', 'train')


def meta_of_model(meta: dict[str, Any], config: Config, checkpoint: str) -> dict[str, Any]:
    """Collect what is known about a model's classes.

    Checkpoints of this project hold everything. Other checkpoints hold names at most. The ids then come from the
    annotation file of the config or, if the names are COCO's, from COCO.

    Args:
        meta: ``meta`` of the checkpoint, see :func:`~mmpanoptic.engine.checkpoints.weights_and_meta`.
        config: Config of the model.
        checkpoint: Name of the checkpoint, for errors.

    Returns:
        dict: ``classes``, ``palette`` and, if they are known, ``categories``, see
        :func:`~mmpanoptic.formats.panoptic_json.dataset_meta`.

    Raises:
        UserError: If the names of the classes cannot be found.
    """
    of_checkpoint = meta.get('dataset_meta') or {}
    if of_checkpoint.get('categories') and of_checkpoint.get('classes'):
        return of_checkpoint
    names, searched = class_names(meta), []
    for split in SPLITS:
        dataset = next(inner_datasets((config.get(f'{split}_dataloader') or {}).get('dataset') or {}))
        path = osp.join(dataset.get('data_root') or '', dataset.get('ann_file') or '')
        searched.append(path)
        if osp.isfile(path):
            found = _meta_of_file(path)
            if names in ((), found['classes']):
                return found
    for coco in (coco_meta(with_stuff=True), coco_meta(with_stuff=False)):
        if names == coco['classes']:
            return coco
    if not names:
        raise UserError(
            f"{checkpoint} has no class names (meta['dataset_meta']), and there is no JSON of the config's test data "
            f'({searched[0] or "none"}): set test_dataloader.dataset.ann_file'
        )
    return dict(of_checkpoint, classes=names)


def _meta_of_file(path: str) -> dict[str, Any]:
    data = read_json(path)
    categories = data.get('categories')
    if isinstance(categories, list) and not any('isthing' in entry for entry in categories if isinstance(entry, dict)):
        return dataset_meta(parse_things(with_used_categories(data, path), path))
    return dataset_meta(parse_categories(categories, path))


def categories_by_label(meta: dict[str, Any], num_things: int | None) -> list[dict[str, Any]]:
    """The ``categories`` of results, see :class:`~mmpanoptic.results.PanopticResult`.

    Args:
        meta: Result of :func:`meta_of_model`.
        num_things: Number of thing classes, used if the categories are unknown; None: all classes are things.
    """
    classes = meta['classes']
    palette = get_palette(meta.get('palette'), len(classes))
    known = {category['label']: category for category in meta.get('categories', ())}
    things = len(classes) if num_things is None else num_things
    return [
        dict(
            id=known[label]['id'] if label in known else None,
            name=name,
            isthing=int(known[label]['isthing'] if label in known else label < things),
            color=[int(value) for value in palette[label]],
        )
        for label, name in enumerate(classes)
    ]
