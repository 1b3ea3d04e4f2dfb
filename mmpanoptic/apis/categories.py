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


def meta_of_model(meta: dict, config: Config, checkpoint: str) -> dict:
    """What is known of a model's classes.

    Checkpoints of this project hold all of it. Those of others hold names at most: the ids come from the annotations
    that the config names, or are COCO's where the names are.

    Args:
        meta: The checkpoint's, see :func:`~mmpanoptic.engine.checkpoints.weights_and_meta`.
        config: The model's.
        checkpoint: Its name, for errors.

    Returns:
        dict: ``classes``, ``palette`` and, where they can be had, ``categories``, see
        :func:`~mmpanoptic.formats.panoptic_json.dataset_meta`.

    Raises:
        UserError: If not even the names are to be found.
    """
    told = meta.get('dataset_meta') or {}
    if told.get('categories') and told.get('classes'):
        return told
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
            f"{checkpoint} has no class names (meta['dataset_meta']), nor is there a JSON of the config's test data "
            f'({searched[0] or "none"}): set test_dataloader.dataset.ann_file'
        )
    return dict(told, classes=names)


def _meta_of_file(path: str) -> dict:
    data = read_json(path)
    categories = data.get('categories')
    if isinstance(categories, list) and not any('isthing' in one for one in categories if isinstance(one, dict)):
        return dataset_meta(parse_things(with_used_categories(data, path), path))
    return dataset_meta(parse_categories(categories, path))


def categories_by_label(meta: dict, num_things: int | None) -> list[dict[str, Any]]:
    """The ``categories`` of results, see :class:`~mmpanoptic.results.PanopticResult`.

    Args:
        meta: Of :func:`meta_of_model`.
        num_things: How many of the classes are things, where the categories are not known; None: all.
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
