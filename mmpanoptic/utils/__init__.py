from .errors import DatasetError, UserError
from .files import is_local, read_bytes

__all__ = ['DatasetError', 'UserError', 'is_local', 'read_bytes']
