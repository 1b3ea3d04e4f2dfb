"""Pipelines whose steps have names, so that a config changes one of them without counting."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from mmpanoptic.utils import UserError

Step = dict | Callable[[dict], dict | None]
Pipeline = Mapping[str, Step | None] | Sequence[Step]
Groups = Mapping[str, Pipeline | None] | Sequence[Pipeline]


def steps_of(pipeline: Pipeline, name: str = 'pipeline') -> list[Step]:
    """The steps of a pipeline, in its order.

    Configs inherit dicts entry by entry: ``pipeline=dict(resize=dict(scale=(853, 512)))`` changes one step, and
    ``resize=None`` leaves it out. Functions of mmdet's that read a pipeline from a config want the list.

    Args:
        pipeline: Steps by name, or a list of them as mmdet has it. A step is a dict with a ``type``, or callable.
        name: What the pipeline is called in the config, for messages.

    Raises:
        UserError: If something is no step, such as a change of one whose name is misspelt, or the names were sorted.
    """
    steps = _entries(pipeline, name)
    for key, step in steps.items():
        if not (callable(step) or (isinstance(step, Mapping) and 'type' in step)):
            others = ', '.join(str(other) for other in steps if other != key) or 'none'
            what = f"{name}.{key} is {step!r}, which has no 'type'"
            raise UserError(f'{what}: name one of the steps ({others}), or add it')
    _check_order({key: [step] for key, step in steps.items()}, name)
    return list(steps.values())


def groups_of(transforms: Groups, name: str = 'transforms') -> list[list[Step]]:
    """The groups of transforms of a ``TestTimeAug``, in their order: see :func:`steps_of`.

    Args:
        transforms: Groups by name, or a list of them as mmcv has it. A group is what ``steps_of`` takes.
        name: What they are called in the config, for messages.
    """
    groups = {key: steps_of(group, f'{name}.{key}') for key, group in _entries(transforms, name).items()}
    _check_order(groups, name)
    return list(groups.values())


def list_steps(config: Mapping | Sequence, where: str = '') -> None:
    """Make lists of all named steps and groups in a config, in place: what mmengine writes has its names sorted.

    Args:
        config: The config, or a part of it.
        where: The path to this part with a dot behind it, for messages.

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
    """What there is by name, or by place in a list."""
    if isinstance(parts, Mapping):
        return {key: part for key, part in parts.items() if part is not None}
    if isinstance(parts, (list, tuple)):
        return dict(enumerate(parts))
    raise UserError(f'{name} is {parts!r}: give it a dict of named steps, or a list')


def _check_order(groups: dict[str | int, list[Step]], name: str) -> None:
    """Nothing can follow the step that packs: in a config that mmengine has written, it may stand before others."""
    for key, steps in list(groups.items())[:-1]:
        if any(isinstance(step, Mapping) and str(step['type']).split('.')[-1].startswith('Pack') for step in steps):
            raise UserError(
                f'{name}: {key} packs the sample, but is not the last step. Config.dump sorts names: let '
                'mmpanoptic.engine.configs.load_config read a config that is to be written, or move the step'
            )
