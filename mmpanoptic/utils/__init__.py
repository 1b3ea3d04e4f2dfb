from .choices import require_choice
from .errors import DatasetError, UserError
from .files import is_local, read_bytes
from .outputs import sole_writer, whole_file, write_whole
from .paths import require_file, require_folder
from .progress import tracked_map

__all__ = [
    'DatasetError',
    'UserError',
    'is_local',
    'read_bytes',
    'require_choice',
    'require_file',
    'require_folder',
    'sole_writer',
    'tracked_map',
    'whole_file',
    'write_whole',
]
