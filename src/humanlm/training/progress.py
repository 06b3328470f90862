"""What a waiting person sees: a bar on a terminal, plain log lines elsewhere."""

import logging
import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

logger = logging.getLogger("humanlm.training")

_LOG_LINES = 20

Listener = Callable[[int, int], None]
"""Called with the updates done and all updates."""


class Progress:
    """Shows the steps of a run. A context manager.

    Args:
        name: What is running.
        steps: Updates in all.
        done: Updates an earlier session did.
        listener: Who shows the progress instead.
    """

    def __init__(self, name: str, steps: int, *, done: int = 0, listener: Listener | None = None) -> None:
        self.name, self.steps, self.done, self.listener = name, steps, done, listener
        self.bar = listener is None and sys.stderr.isatty()
        self._live: Any = None
        self._task: Any = None
        self._start = time.monotonic()

    def __enter__(self) -> Self:
        if self.bar:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as RichProgress

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            more = TextColumn("{task.fields[numbers]}")
            self._live = RichProgress(*columns, more, console=Console(stderr=True))
            self._task = self._live.add_task(self.name, total=self.steps, completed=self.done, numbers="")
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def step(self, step: int, row: Mapping[str, Any]) -> None:
        """Shows one finished update.

        Args:
            step: Updates done.
            row: The step's line in metrics.jsonl.
        """
        if self.listener is not None:
            self.listener(step, self.steps)
            return
        names = {"reward": "reward", "loss": "loss", "dropped_groups": "dropped"}
        shown = {key: row[key] for key in names if row.get(key) is not None and (row[key] or key != "dropped_groups")}
        numbers = [f"{names[key]} {value:.3g}" for key, value in shown.items()]
        if self._live is not None:
            self._live.update(self._task, completed=step, numbers=" ".join(numbers))
        elif step == self.steps or step % max(1, self.steps // _LOG_LINES) == 0:
            seconds = time.monotonic() - self._start
            logger.info("%s step %d/%d %s (%.0f s)", self.name, step, self.steps, " ".join(numbers), seconds)

    def note(self, text: str) -> None:
        """Says something that is worth a line of its own."""
        if self._live is not None:
            self._live.console.print(text)
        else:
            logger.warning("%s", text)
