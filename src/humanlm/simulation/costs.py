"""What asking a simulator behind an API would cost, before anything is asked."""

from collections.abc import Callable, Sequence
from typing import Protocol

from humanlm.example import Example
from humanlm.judging.base import Estimate
from humanlm.llm import resolve
from humanlm.prompts import Prompts
from humanlm.simulation.card import ModelCard
from humanlm.simulation.limits import token_limit

AskingCost = Callable[[Sequence[tuple[Example, str]], int], Estimate]
"""From some (example, target) pairs and the number of texts in all to what these take."""


class _Asked(Protocol):
    """What has to be known of a simulator: everything but its weights."""

    @property
    def card(self) -> ModelCard: ...
    @property
    def prompts(self) -> Prompts: ...
    @property
    def think(self) -> bool: ...


def asking_cost(model: str, url: str | None, simulator: _Asked) -> AskingCost | None:
    """How to estimate it: prompts by their characters, four a token; answers of half their limit.

    Args:
        model: As after ``--model``.
        url: As after ``--model-url``.
        simulator: Its prompts and limits.

    Returns:
        None for a model that runs here and costs nothing.

    Raises:
        UsageError: There is no such provider.
    """
    name = model.removeprefix("api:")
    if url is None and name == model:
        return None
    price = resolve(name, url=url, kind="model").price
    prompts, own = simulator.prompts, simulator.card.max_tokens

    def cost(pairs: Sequence[tuple[Example, str]], total: int) -> Estimate:
        share = total / max(1, len(pairs))
        read = sum(len(message["content"]) for pair in pairs for message in prompts.messages(*pair)) / 4
        written = sum(
            token_limit(target, prompts.states, think=simulator.think, own=own, positions=None) / 2
            for _, target in pairs
        )
        tokens_in, tokens_out = round(read * share), round(written * share)
        dollars = price.cost(tokens_in, 0, tokens_out) if price else None
        return Estimate(calls=total, input_tokens=tokens_in, output_tokens=tokens_out, cost_usd=dollars)

    return cost
