"""All that registries find in this room; they import it on first use."""

import mmpanoptic.registry  # noqa: F401  (before mmdet, whose notices it drops)

# isort: split
import mmdet.engine  # noqa: F401  (registries search their parents only among what is imported)

from . import (
    hooks,  # noqa: F401
    loops,  # noqa: F401
    precision,  # noqa: F401
)
