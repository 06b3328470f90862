"""Measuring simulators: one evaluation, several compared, and the page that shows them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from humanlm.evaluation.page import report as report
    from humanlm.evaluation.runs import evaluate as evaluate
    from humanlm.evaluation.scores import Scores as Scores
    from humanlm.evaluation.suite import compare as compare

_HOMES = {"Scores": "scores", "compare": "suite", "evaluate": "runs", "report": "page"}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Imports a function's module when it is first asked for: a caller of one need not load the others."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"humanlm.evaluation.{_HOMES[name]}"), name)
