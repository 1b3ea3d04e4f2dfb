"""Whether what a dataset names is there."""

import os
import os.path as osp
from collections.abc import Sequence

from mmpanoptic.utils import DatasetError, check_storage, is_local


def check_files(samples: Sequence[dict], ann_file: str, backend_args: dict | None) -> None:
    """Refuse samples whose images or maps are missing; folders are listed once instead of asking for each file.

    Args:
        samples: A dataset's ``data_list``: ``img_path`` and ``seg_map_path`` (None without one) are looked at.
        ann_file: Where they come from, for the error.
        backend_args: Storage backend. Remote storage may not be listed, so that only the backend is looked at; a
            missing file is reported when it is read.

    Raises:
        DatasetError: Naming the first one that is missing, and how many are.
    """
    present: dict[str, set[str]] = {}
    for key, remedy in (('img_path', 'data_prefix.img'), ('seg_map_path', 'data_prefix.seg')):
        missing = []
        for sample in samples:
            if sample[key] is None:
                continue
            folder, name = osp.split(sample[key])
            local = is_local(sample[key], backend_args)
            if folder not in present:
                if not local:
                    check_storage(sample[key], backend_args)
                present[folder] = set(os.listdir(folder)) if local and osp.isdir(folder) else set()
            if local and name not in present[folder]:
                missing.append(sample)
        if missing:
            raise DatasetError(
                f'{missing[0][key]} does not exist (image id {missing[0]["img_id"]!r}; {len(missing)} of '
                f'{len(samples)} files of {ann_file} are missing): check `data_root` and `{remedy}`'
            )
