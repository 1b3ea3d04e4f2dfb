from .choices import require_choice
from .errors import DatasetError, UserError
from .files import is_local, read_bytes
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
    'tracked_map',
]
