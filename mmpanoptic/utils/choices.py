"""Arguments with a few possible values."""

from collections.abc import Collection


def require_choice(name: str, value: str | None, choices: Collection[str | None]) -> None:
    """Refuse a value of an argument that is none of its choices.

    Raises:
        ValueError: Naming the argument, the value and the choices.
    """
    if value not in choices:
        raise ValueError(f'{name} {value!r} is none of {", ".join(map(str, choices))}')
