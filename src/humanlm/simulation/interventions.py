"""Interventions: what a person would say if one of the states behind the words were another.

A model that reasons has its reasoning rewritten: the states that are fixed replace its own in the place where it named them, all
else that it thought stays as it was, and only the reply is written anew. Where it did not name them, they become the beginning
of its reasoning. A model that does not reason is told of them in the persona.
"""

import re
from collections.abc import Mapping
from functools import partial

from humanlm.errors import UsageError, unknown_name
from humanlm.example import Persona
from humanlm.states import RESPONSE, THINK, StateDimension

_TOLD = "At this moment, while HUMAN reads the conversation, HUMAN's {name} is: {text}"


def check_states(fixed: Mapping[str, str], states: Mapping[str, StateDimension], target: str) -> None:
    """Raises a :class:`UsageError` if a fixed state is none of the model's, is empty, or is itself what is asked for."""
    for name, text in fixed.items():
        if name not in states or name == RESPONSE:
            raise unknown_name("state", name, states)
        if not text.strip():
            raise UsageError(f"state {name!r} is to be fixed, but to nothing: give its text, or leave it out")
        if name == target:
            raise UsageError(f"state {name!r} is both asked for and fixed: ask for another target")


def tell(persona: Persona, fixed: Mapping[str, str]) -> Persona:
    """The persona with the states that hold for this one reply."""
    told = [_TOLD.format(name=name, text=text.strip()) for name, text in fixed.items()]
    return persona.model_copy(update={"text": "\n".join([persona.text, *told] if persona.text else told)})


def rewrite(thinking: str, fixed: Mapping[str, str]) -> str | None:
    """The reasoning with the fixed states in the place of its own; None unless it names every one of them in tags."""
    for name, text in fixed.items():
        pattern = re.compile(rf"(<{name}>)((?:(?!</?{name}>).)*)(</{name}>)", re.DOTALL)
        if not pattern.search(thinking):
            return None
        thinking = pattern.sub(partial(_replaced, text.strip()), thinking)
    return thinking


def whole_reasoning(thinking: str) -> str:
    """A beginning of the output that holds the reasoning entire, so that only the reply is left to the model."""
    return f"<{THINK}>\n{thinking}\n</{THINK}>\n\n"


def begun_reasoning(fixed: Mapping[str, str]) -> str:
    """A beginning of the output in which the reasoning starts with the fixed states and goes on as the model likes."""
    return "\n".join([f"<{THINK}>", *(f"<{name}>{text.strip()}</{name}>" for name, text in fixed.items()), ""])


def _replaced(new: str, match: re.Match[str]) -> str:
    """White space around a state is kept as the model wrote it."""
    old = match[2]
    before = old[: len(old) - len(old.lstrip())]
    after = old[len(old.rstrip()) :] if old.strip() else before
    return f"{match[1]}{before}{new}{after}{match[3]}"
