"""Asking platforms: keys that take turns, requests that are spaced and repeated, and errors sorted by what they mean."""

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import TypeVar

from humanlm.errors import RunError, UsageError

T = TypeVar("T")

TRIES = 5
WAIT_S = 1.0
TIMEOUT_S = 30.0
_LONGEST_WAIT_S = 300.0


class Busy(Exception):
    """The request may work in a while: a rate limit, a failing server, a line that broke, an answer that is no JSON.

    Attributes:
        after_s: How long the platform asks to wait, if it says so.
    """

    def __init__(self, problem: str, after_s: float | None = None) -> None:
        super().__init__(problem)
        self.after_s = after_s


class Spent(Exception):
    """The key's quota is used up."""


class Unwelcome(Exception):
    """The key is not accepted."""


class Refused(Exception):
    """The platform gives no answer to this request, however often it is asked: deleted, private, comments off.

    Attributes:
        reason: The platform's own word for it, where it has one.
    """

    def __init__(self, problem: str, reason: str = "") -> None:
        super().__init__(problem)
        self.reason = reason


class Unanswered(RunError):
    """The platform did not answer, however often it was asked; later it may."""


class Gate:
    """The way to one platform.

    Args:
        platform: Its name in messages.
        variable: The environment variable with its keys, several with commas between them.
        per_second: The most requests a second; None for no limit of ours.
    """

    def __init__(self, platform: str, variable: str, *, per_second: float | None = None) -> None:
        self.platform, self.variable = platform, variable
        self.requests = 0
        self._keys = keys(variable)
        self._spacing = 1 / per_second if per_second else 0.0
        self._free_at = 0.0
        self._problems: list[str] = []

    def ask(self, send: Callable[[str], T], what: str) -> T:
        """Sends a request, again where that may help, with the next key where one is used up.

        Args:
            send: Sends it with a key; raises ``Busy``, ``Spent``, ``Unwelcome`` or ``Refused``.
            what: The request in a message, without its key.

        Raises:
            Refused: This request gets no answer.
            Unanswered: The platform did not answer.
            RunError: No key is left.
        """
        tries = 0
        while True:
            if not self._keys:
                raise RunError(
                    f"{self.platform}: every key in {self.variable} is used up or refused ({self._problems[-1]}): "
                    "wait for new quota or add a key, then the same command with --resume goes on"
                )
            self._space()
            self.requests += 1
            try:
                return send(self._keys[0])
            except (Spent, Unwelcome) as error:
                self._problems.append(str(error))
                self._keys = self._keys[1:]
            except Busy as error:
                tries += 1
                if tries >= TRIES:
                    raise Unanswered(
                        f"{self.platform}: {what}: {error}, {TRIES} times: "
                        "try later, the same command with --resume goes on (--skip-failed passes over it)"
                    ) from error
                wait = WAIT_S * 2 ** (tries - 1) * (0.5 + random.random()) if error.after_s is None else error.after_s
                time.sleep(min(wait, _LONGEST_WAIT_S))

    def _space(self) -> None:
        now = time.monotonic()
        if now < self._free_at:
            time.sleep(self._free_at - now)
        self._free_at = max(now, self._free_at) + self._spacing


def keys(variable: str) -> list[str]:
    """The keys in an environment variable.

    Raises:
        UsageError: It is not set.
    """
    found = [key.strip() for key in os.environ.get(variable, "").split(",") if key.strip()]
    if not found:
        raise UsageError(f"{variable} is not set: export {variable}=KEY (several with commas; see docs/collect.md)")
    return found


def retry_after(value: str | None) -> float | None:
    """Seconds of a ``Retry-After`` header, which holds seconds or a date."""
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


@contextmanager
def needs_extra() -> Iterator[None]:
    """Says how to install the platforms' clients where they are missing.

    Raises:
        UsageError: One is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise UsageError(f"{error.name} is not installed: pip install 'humanlm[collect]'") from error
