"""Downloads with the standard library, bounded in size and in time."""

import hashlib
import os
import re
from http.client import HTTPException
from urllib.error import URLError
from urllib.parse import unquote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from .errors import DatasetError, UserError

SCHEMES = ('http', 'https')
MAX_BYTES = 2**28
TIMEOUT = 30.0  # seconds without an answer
_PIECE = 2**20
_LONGEST = 80  # characters of a name, and of a suffix: file systems have room for 255 bytes


def is_address(path: object) -> bool:
    """Whether ``path`` is an address with a scheme rather than a local path."""
    return isinstance(path, (str, os.PathLike)) and '://' in os.fspath(path)


def require_fetchable(address: str, what: str) -> None:
    """Refuse an address that :func:`fetch` does not support.

    Raises:
        UserError: If its scheme is none of :data:`SCHEMES`, or it names no host.
    """
    parts = urlsplit(address)
    if parts.scheme.lower() not in SCHEMES or not parts.hostname:
        raise UserError(
            f'{what} {address} is an address that is not fetched ({" and ".join(SCHEMES)} are): download it and give '
            'the path of the file'
        )


class _SameSchemes(HTTPRedirectHandler):
    """Follows redirections to http and https only: a server must not make the client read local files."""

    def redirect_request(self, req: Request, fp, code, msg, headers, newurl: str) -> Request | None:
        """Check the new address, then redirect as the base class does."""
        require_fetchable(newurl, 'redirection to')
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def fetch(address: str, max_bytes: int = MAX_BYTES, timeout: float = TIMEOUT) -> bytes:
    """Download the contents of an address.

    Args:
        address: An address of http or https.
        max_bytes: A longer answer is refused.
        timeout: Seconds without data from the server after which the download fails.

    Raises:
        DatasetError: If it cannot be downloaded, or is too long.
    """
    require_fetchable(address, 'image')
    way_out = 'try again later, or download it and give the path of the file'
    try:
        with build_opener(_SameSchemes).open(Request(address), timeout=timeout) as answer:
            parts, length = [], 0
            while part := answer.read(_PIECE):
                parts.append(part)
                length += len(part)
                if length > max_bytes:
                    raise DatasetError(f'{address} is longer than {max_bytes} bytes: download it and give its path')
    except DatasetError:
        raise
    except UserError as error:  # of a redirection
        raise DatasetError(f'{address}: {error}') from None
    except (OSError, HTTPException, ValueError) as error:  # timeouts among them
        reason = error.reason if isinstance(error, URLError) else error
        raise DatasetError(f'{address} cannot be fetched ({" ".join(str(reason).split())}): {way_out}') from None
    return b''.join(parts)


def path_of(address: str) -> str:
    """Make a relative path for the file of an address: host, folders and name.

    What else tells addresses apart (the scheme, a port, a query) becomes a few digits after the name. Long names are
    cut.
    """
    parts = urlsplit(address)
    path = unquote(parts.path).strip('/') or 'index'
    name = re.sub(r'[\x00-\x1f\x7f]', '_', path)
    stem, suffix = os.path.splitext(name)
    stem, suffix = stem[-_LONGEST:], suffix[:_LONGEST]
    plain = parts.scheme == 'https' and parts.netloc == parts.hostname and not parts.query and not parts.fragment
    digits = '' if plain and stem + suffix == path else f'_{hashlib.sha256(address.encode()).hexdigest()[:8]}'
    return f'{parts.hostname}/{stem}{digits}{suffix}'
