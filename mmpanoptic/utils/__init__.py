from .choices import require_choice
from .errors import DatasetError, UserError, one_line
from .files import check_storage, is_local, read_bytes
from .outputs import (
    WriteError,
    check_replaceable,
    part_of,
    remove_whole,
    sole_writer,
    whole_file,
    whole_folder,
    write_whole,
)
from .paths import require_file, require_folder
from .progress import tracked_map
from .shipped import find_config, shipped

__all__ = [
    'DatasetError',
    'UserError',
    'WriteError',
    'check_replaceable',
    'check_storage',
    'find_config',
    'is_local',
    'one_line',
    'part_of',
    'read_bytes',
    'remove_whole',
    'require_choice',
    'require_file',
    'require_folder',
    'shipped',
    'sole_writer',
    'tracked_map',
    'whole_file',
    'whole_folder',
    'write_whole',
]
