"""HumanLM: train, measure and serve user simulators."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from humanlm.errors import HumanLMError as HumanLMError
    from humanlm.evaluation import compare as compare
    from humanlm.evaluation import evaluate as evaluate
    from humanlm.example import Example as Example
    from humanlm.example import Persona as Persona
    from humanlm.example import Turn as Turn
    from humanlm.judging import Judge as Judge
    from humanlm.judging import Verdict as Verdict
    from humanlm.judging.embedding import EmbeddingJudge as EmbeddingJudge
    from humanlm.judging.llm import LLMJudge as LLMJudge
    from humanlm.prompts import render_prompt as render_prompt
    from humanlm.reading import load_examples as load_examples
    from humanlm.reply import Reply as Reply
    from humanlm.reply import parse_reply as parse_reply
    from humanlm.simulation import Simulator as Simulator
    from humanlm.states import STATES as STATES
    from humanlm.states import StateDimension as StateDimension
    from humanlm.surveying import survey as survey
    from humanlm.training import TrainConfig as TrainConfig
    from humanlm.training import train as train

__version__ = "0.1.0"

_HOMES = {
    "EmbeddingJudge": "judging.embedding",
    "Example": "example",
    "HumanLMError": "errors",
    "Judge": "judging",
    "LLMJudge": "judging.llm",
    "Persona": "example",
    "Reply": "reply",
    "STATES": "states",
    "Simulator": "simulation",
    "StateDimension": "states",
    "TrainConfig": "training",
    "Turn": "example",
    "Verdict": "judging",
    "compare": "evaluation",
    "evaluate": "evaluation",
    "load_examples": "reading",
    "parse_reply": "reply",
    "render_prompt": "prompts",
    "survey": "surveying",
    "train": "training",
}
__all__ = sorted([*_HOMES, "__version__"])


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used: `import humanlm` stays light."""
    if name not in _HOMES:
        raise AttributeError(f"module 'humanlm' has no attribute {name!r}")
    return getattr(importlib.import_module(f"humanlm.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
