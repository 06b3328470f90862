"""The thinking that ``sft-think`` imitates: for each example the tagged states behind its real response."""

from collections.abc import Mapping, Sequence

from humanlm.errors import DataError, UsageError
from humanlm.example import Example
from humanlm.prompts import Prompts
from humanlm.world.generator import SOURCE
from humanlm.world.lexical import read_states

RULE = "rule"
"""The controlled world's: what its lexicon reads off the real response."""


def trace_text(states: Mapping[str, str], prompts: Prompts) -> str:
    """Tagged states as they stand in a reasoning: one a line, in the order of the prompt set."""
    return "\n".join(prompts.completion(name, states[name]) for name in prompts.states if name in states)


def trace_source(spec: str | None, examples: Sequence[Example]) -> str:
    """Where traces come from: as said, else the rule where all examples are of the controlled world.

    Raises:
        UsageError: It is not said and cannot be known.
    """
    if spec:
        return "rule" if spec == "world" else spec
    if examples and all(example.source == SOURCE for example in examples):
        return RULE
    raise UsageError(
        "sft-think needs thinking to imitate: add --traces provider/model (a language model writes it), or a .jsonl file of it"
    )


def read_off(examples: Sequence[Example], prompts: Prompts) -> dict[int, str]:
    """The world's traces: by the place of the example, the states that its real response voices.

    Raises:
        DataError: No response voices any state in the world's words.
    """
    found: dict[int, str] = {}
    for place, example in enumerate(examples):
        voiced = read_states(example.response)
        states = {name: "; ".join(sorted(voiced[name])) for name in prompts.states if voiced.get(name)}
        if states:
            found[place] = trace_text(states, prompts)
    if not found:
        raise DataError(
            f"traces=rule reads no state off any of {len(examples)} responses: it knows only the controlled world's words; "
            "use --traces provider/model"
        )
    return found
