"""Pipelines with named steps, so that a config can change a step by name instead of by index."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from mmdet.utils import get_test_pipeline_cfg
from mmengine.config import Config

from mmpanoptic.utils import UserError

Step = dict | Callable[[dict], dict | None]
Pipeline = Mapping[str, Step | None] | Sequence[Step]
Groups = Mapping[str, Pipeline | None] | Sequence[Pipeline]


def steps_of(pipeline: Pipeline, name: str = 'pipeline') -> list[Step]:
    """The steps of a pipeline as a list, in order.

    Configs inherit dicts entry by entry: ``pipeline=dict(resize=dict(scale=(853, 512)))`` changes one step, and
    ``resize=None`` removes it. mmdet's functions that read a pipeline from a config need the list.

    Args:
        pipeline: Steps by name, or a list of steps as in mmdet. A step is a dict with a ``type``, or callable.
        name: Name of the pipeline in the config, for messages.

    Raises:
        UserError: If an entry is not a step (as when a changed step's name is misspelt), or the names were sorted.
    """
    steps = _entries(pipeline, name)
    for key, step in steps.items():
        if not (callable(step) or (isinstance(step, Mapping) and 'type' in step)):
            others = ', '.join(str(other) for other in steps if other != key) or 'none'
            what = f"{name}.{key} is {step!r}, which has no 'type'"
            raise UserError(f'{what}: name one of the steps ({others}), or add it')
    _check_order({key: [step] for key, step in steps.items()}, name)
    return list(steps.values())


def steps_of_test(config: Config) -> list[Step]:
    """The steps of a config's test pipeline, in order.

    Raises:
        UserError: If the config has none, or see :func:`steps_of`.
    """
    try:
        return steps_of(get_test_pipeline_cfg(config))
    except (AttributeError, RuntimeError, TypeError, LookupError):
        name = config.filename or 'the config'
        raise UserError(f'{name} has no test_dataloader.dataset.pipeline: set it') from None


def type_of(step: Step) -> str:
    """Name of a step's type, without its scope and module."""
    kind = step['type'] if isinstance(step, Mapping) else type(step)
    return kind.rpartition('.')[2] if isinstance(kind, str) else kind.__name__


def groups_of(transforms: Groups, name: str = 'transforms') -> list[list[Step]]:
    """The groups of transforms of a ``TestTimeAug`` as a list, in order; see :func:`steps_of`.

    Args:
        transforms: Groups by name, or a list of groups as in mmcv. A group is an argument of ``steps_of``.
        name: Name of the groups in the config, for messages.
    """
    groups = {key: steps_of(group, f'{name}.{key}') for key, group in _entries(transforms, name).items()}
    _check_order(groups, name)
    return list(groups.values())


def list_steps(config: Any, where: str = '') -> None:
    """Replace all named steps and groups in a config by lists, in place, because mmengine sorts names on writing.

    Args:
        config: The config, or a dict or list in it.
        where: Path to this part, with a dot at the end, for messages.

    Raises:
        UserError: See :func:`steps_of`.
    """
    items: Iterable = config.items() if isinstance(config, Mapping) else enumerate(config)
    for key, value in list(items):
        if isinstance(value, Mapping) and key in ('pipeline', 'tta_pipeline'):
            value = config[key] = steps_of(value, f'{where}{key}')
        elif isinstance(value, Mapping) and key == 'transforms' and config.get('type') == 'TestTimeAug':
            value = config[key] = groups_of(value, f'{where}{key}')
        if isinstance(value, (Mapping, list)):
            list_steps(value, f'{where}{key}.')


def _entries(parts: Mapping | Sequence, name: str) -> dict:
    """Entries by name, or by index in a list."""
    if isinstance(parts, Mapping):
        return {key: part for key, part in parts.items() if part is not None}
    if isinstance(parts, (list, tuple)):
        return dict(enumerate(parts))
    raise UserError(f'{name} is {parts!r}: give it a dict of named steps, or a list')


def _check_order(groups: dict[str | int, list[Step]], name: str) -> None:
    """Refuse steps after the step that packs, as in a config in which mmengine has sorted the names."""
    for key, steps in list(groups.items())[:-1]:
        if any(isinstance(step, Mapping) and type_of(step).startswith('Pack') for step in steps):
            raise UserError(
                f'{name}: {key} packs the sample, but is not the last step. Config.dump sorts names: let '
                'mmpanoptic.engine.configs.load_config read a config that is to be written, or move the step'
            )
