"""Reading and writing of the files that data comes in: COCO's panoptic and instance formats."""

import mmpanoptic.registry  # noqa: F401  (before mmdet, whose notices it drops)
