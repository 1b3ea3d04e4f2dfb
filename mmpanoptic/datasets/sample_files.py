"""Checks that a dataset's files exist and that its options are known."""

import os
import os.path as osp
from collections.abc import Mapping, Sequence

from mmpanoptic.utils import DatasetError, check_storage, is_local

# Entries that datasets read from their dicts of options.
_ENTRIES = {'filter_cfg': ('filter_empty_gt', 'min_size'), 'data_prefix': ('img', 'seg')}


def check_entries(dataset: str, options: Mapping) -> None:
    """Refuse entries of ``filter_cfg`` and ``data_prefix`` that no dataset looks up.

    Args:
        dataset: Name of the dataset, for the error.
        options: Arguments of the dataset.

    Raises:
        DatasetError: Naming the first such entry.
    """
    for name, known in _ENTRIES.items():
        for entry in options.get(name) or ():
            if entry not in known:
                raise DatasetError(f'{dataset}: nothing reads {entry!r} of {name}: it takes {" and ".join(known)}')


def check_files(samples: Sequence[dict], ann_file: str, backend_args: dict | None) -> None:
    """Refuse samples whose images or maps are missing. Folders are listed once instead of checking each file.

    Args:
        samples: A dataset's ``data_list``: ``img_path`` and ``seg_map_path`` (or None) are checked.
        ann_file: Annotation file of the samples, for the error.
        backend_args: Storage backend. Remote storage is not listed: only the backend is checked, and a missing file is
            reported when it is read.

    Raises:
        DatasetError: Naming the first missing file and the number of missing files.
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
