"""Pipelines whose steps have names, so that a config changes one of them without counting."""

from collections.abc import Callable, Mapping, Sequence

from mmpanoptic.utils import UserError

Step = dict | Callable[[dict], dict | None]
Pipeline = Mapping[str, Step | None] | Sequence[Step]


def steps_of(pipeline: Pipeline, name: str = 'pipeline') -> list[Step]:
    """The steps of a pipeline, in its order.

    Configs inherit dicts entry by entry: ``pipeline=dict(resize=dict(scale=(853, 512)))`` changes one step, and
    ``resize=None`` leaves it out. Functions of mmdet's that read a pipeline from a config want the list.

    Args:
        pipeline: Steps by name, or a list of them as mmdet has it. A step is a dict with a ``type``, or callable.
        name: What the pipeline is called in the config, for messages.

    Raises:
        UserError: If something is no step, such as a change of one whose name is misspelt.
    """
    if isinstance(pipeline, Mapping):
        steps = {key: step for key, step in pipeline.items() if step is not None}
    elif isinstance(pipeline, (list, tuple)):
        steps = dict(enumerate(pipeline))
    else:
        raise UserError(f'{name} is {pipeline!r}: give it a dict of named steps, or a list')
    for key, step in steps.items():
        if not (callable(step) or (isinstance(step, Mapping) and 'type' in step)):
            others = ', '.join(str(other) for other in steps if other != key) or 'none'
            raise UserError(
                f"{name}.{key} is {step!r}, which has no 'type': name one of its steps ({others}), or add it"
            )
    return list(steps.values())
