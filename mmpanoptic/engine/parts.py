"""Imports all components of this package that registries find; registries import this module on first use."""

import mmpanoptic.registry  # noqa: F401  (before mmdet, whose notices it drops)

# isort: split
import mmdet.engine  # noqa: F401  (registries search their parents only among what is imported)

from . import (
    hooks,  # noqa: F401
    loops,  # noqa: F401
    precision,  # noqa: F401
)
