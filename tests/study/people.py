"""A person at the pages, for tests: reads forms as a browser does and fills them in."""

from typing import Any

import httpx

from humanlm.study.forms import PageRead, read_page
from humanlm.study.rehearse import _Person


class Person:
    """A client with cookies; ``page`` is what was last seen."""

    def __init__(self, url: str, number: int = 0) -> None:
        self.client = httpx.Client(base_url=url, follow_redirects=True, timeout=30)
        self.made_up = _Person(number, 0, url, 0.0)
        self.page: PageRead = read_page("")
        self.answer: Any = None

    @property
    def path(self) -> str:
        return self.answer.url.path

    def see(self, path: str) -> "Person":
        self.answer = self.client.get(path)
        self.page = read_page(self.answer.text)
        return self

    def send(self, action: str | None = None, **changes: Any) -> "Person":
        """Fills the form in and sends it; a change of None leaves a field out."""
        form = {**self.page.hidden, **self.made_up.fill(self.page)}
        for name, value in changes.items():
            form[name.replace("__", ".")] = value
        data = {name: value for name, value in form.items() if value is not None}
        self.answer = self.client.post(action or self.page.action or "", data=data)
        self.page = read_page(self.answer.text)
        return self

    def begin(self, path: str = "/") -> "Person":
        return self.see(path).send()

    def until(self, end: str) -> "Person":
        """Goes on until the path ends so, or to the end."""
        import time

        for _ in range(200):
            if self.path.endswith(end) or self.page.code:
                return self
            if self.page.action is None:
                time.sleep(0.05)
                self.see("/study")
            else:
                self.send()
            assert not self.page.faults, self.page.faults
        raise AssertionError(f"never came to {end}: at {self.path}")
