from .errors import DatasetError, UserError
from .files import read_bytes

__all__ = ['DatasetError', 'UserError', 'read_bytes']
