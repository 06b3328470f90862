"""From the word after ``--judge`` to a judge."""

import importlib
import re
from typing import Any

from humanlm.errors import UsageError, unknown_name
from humanlm.judging.base import Judge

BUILT_IN = {"rule": "humanlm.world.judge:RuleJudge", "embedding": "humanlm.judging.embedding:EmbeddingJudge"}
"""Judges by name, as ``module:Class`` so that none is imported before it is asked for."""

_PATH = re.compile(r"[\w.]+:\w+")


def open_judge(spec: str) -> Judge:
    """Makes the judge that a spec names.

    Args:
        spec: ``rule`` (the controlled world's), ``embedding`` or ``embedding:MODEL``, or ``package.module:Class`` for your own
            subclass of :class:`Judge`, which is made without arguments.

    Raises:
        UsageError: There is no such judge.
    """
    name, _, argument = spec.partition(":")
    if name in BUILT_IN:
        arguments = (argument,) if argument else ()
        if arguments and name == "rule":
            raise UsageError(f"judge {spec!r}: the rule judge takes no model: write --judge rule")
        return _make(BUILT_IN[name], arguments)
    if _PATH.fullmatch(spec):
        return _make(spec, ())
    raise unknown_name("judge", spec, [*BUILT_IN, "embedding:MODEL", "package.module:Class"])


def _make(path: str, arguments: tuple[str, ...]) -> Judge:
    module_name, _, class_name = path.partition(":")
    try:
        found: Any = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise UsageError(
            f"judge {path!r}: cannot import it ({error}): check the module's and the class's name"
        ) from error
    if not (isinstance(found, type) and issubclass(found, Judge)):
        raise UsageError(f"judge {path!r}: {class_name} is not a subclass of humanlm.Judge")
    return found(*arguments)
