"""The one door to language-model APIs: any OpenAI-compatible server, through the official client."""

from humanlm.llm.door import LLM
from humanlm.llm.providers import Endpoint, Price, resolve
from humanlm.llm.spending import Spending, SpendLimits, Tally
from humanlm.llm.streaming import stream
from humanlm.llm.wire import Answer, Call, CallError, Schema

__all__ = [
    "LLM",
    "Answer",
    "Call",
    "CallError",
    "Endpoint",
    "Price",
    "Schema",
    "SpendLimits",
    "Spending",
    "Tally",
    "resolve",
    "stream",
]
