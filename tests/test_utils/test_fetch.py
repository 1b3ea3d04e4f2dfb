"""Files from the web, from a server in this process."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mmpanoptic.utils import DatasetError
from mmpanoptic.utils.fetch import fetch, path_of


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == '/moved':
            self.send_response(302)
            self.send_header('Location', '/a.png')
            self.end_headers()
        elif self.path == '/trap':
            self.send_response(302)
            self.send_header('Location', 'ftp://127.0.0.1/a.png')
            self.end_headers()
        elif self.path == '/slow':
            self.server.stop.wait(10)
        elif self.path.startswith('/a.png'):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'x' * 1000)
        else:
            self.send_error(404)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope='module')
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(('127.0.0.1', 0), _Handler)
    server.stop = threading.Event()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f'http://127.0.0.1:{server.server_port}'
    server.stop.set()
    server.shutdown()
    thread.join()


def test_what_lies_there(address: str):
    assert fetch(f'{address}/a.png') == fetch(f'{address}/moved') == b'x' * 1000


def test_what_cannot_be_had(address: str):
    with pytest.raises(DatasetError, match=rf'^{address}/none cannot be fetched \(.*(?i:not found)\): try again'):
        fetch(f'{address}/none')
    with pytest.raises(DatasetError, match=r'a\.png is longer than 999 bytes: download it'):
        fetch(f'{address}/a.png', max_bytes=999)
    with pytest.raises(DatasetError, match=r'/trap: .*ftp://127\.0\.0\.1/a\.png is an address that is not fetched'):
        fetch(f'{address}/trap')
    with pytest.raises(DatasetError, match=r'/slow cannot be fetched \(timed out\)'):
        fetch(f'{address}/slow', timeout=0.2)
    with pytest.raises(DatasetError, match=r'http://127\.0\.0\.1:9/x\.png cannot be fetched'):
        fetch('http://127.0.0.1:9/x.png', timeout=2)


def test_names_of_addresses():
    assert path_of('https://example.org/day%201/a.jpg') == 'example.org/day 1/a.jpg'
    others = [
        'http://example.org/a.jpg',
        'https://example.org:8000/a.jpg',
        'https://example.org:9000/a.jpg',
        'https://example.org/a.jpg?sig=SECRET/1',
        'https://example.org/%00a.jpg',
        f'https://example.org/{"x" * 300}.jpg',
        f'https://example.org/a.jpg?{"q" * 400}',
    ]
    names = [path_of(address) for address in others]
    assert len(set(names)) == len(names) and 'example.org/a.jpg' not in names
    for name in names:
        assert name.startswith('example.org/') and name.endswith('.jpg') and len(name) < 120
        assert 'SECRET' not in name and '\0' not in name
    assert path_of('https://example.org') == 'example.org/index'
