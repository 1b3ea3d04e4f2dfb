"""A page in headless Chromium, driven by playwright; nothing that the page says or asks for goes unseen."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers.repo import load_tool
from playwright.sync_api import Browser, Page, sync_playwright

SCREENSHOT = load_tool('misc/screenshot')


def require_chromium() -> str:
    """The Chromium of this machine; skips the test if there is none, and fails it with ``CI`` set."""
    program = SCREENSHOT.browser_program()
    if program is None:
        message = f'none of {", ".join(SCREENSHOT.PROGRAMS)} is installed: apt-get install chromium'
        if os.environ.get('CI'):
            pytest.fail(message)
        pytest.skip(message)
    return program


@contextmanager
def chromium() -> Iterator[Browser]:
    """It, headless."""
    program = require_chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def watched_page(browser: Browser) -> Iterator[Page]:
    """A page in a profile of its own, which must log nothing, raise nothing and request nothing but files opened."""
    said, asked = [], []
    context = browser.new_context(viewport={'width': 1280, 'height': 1000})
    context.on('console', lambda message: said.append(f'{message.type}: {message.text}'))
    context.on('weberror', lambda error: said.append(str(error.error)))
    context.on('request', lambda request: asked.append(request))
    try:
        yield context.new_page()
        assert said == []
        fetched = [request for request in asked if not request.url.startswith('data:')]
        assert fetched and all(request.is_navigation_request() for request in fetched)
        assert all(request.url.startswith('file:') for request in fetched)
    finally:
        context.close()


def open_file(page: Page, path: Path, address: str = '') -> None:
    """Open a file at an address within it."""
    page.goto(path.as_uri() + address)
