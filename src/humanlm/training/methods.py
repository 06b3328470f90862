"""The training methods: what each one asks for, and whether its response reasons first."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

from humanlm.errors import UsageError, unknown_name
from humanlm.states import RESPONSE


class Method(NamedTuple):
    """One way to train a simulator.

    Attributes:
        name: As on the command line.
        kind: ``sft`` imitates the real response, ``rl`` is rewarded by a judge.
        asks_states: Whether state prompts are trained beside the response prompt.
        think: Whether the response prompt reasons first. State prompts never do.
        about: One line for people.
        traced: Whether the reasoning is written as tagged states; with a judge, each of them earns its own advantage.
    """

    name: str
    kind: Literal["sft", "rl"]
    asks_states: bool
    think: bool
    about: str
    traced: bool = False

    @property
    def credits_states(self) -> bool:
        """Whether tagged states of the reasoning are judged."""
        return self.traced and self.kind == "rl"

    def targets(self, states: Iterable[str]) -> tuple[str, ...]:
        """What its prompts may ask for: the states in their order if it can ask for them, then the response."""
        return (*(states if self.asks_states or self.credits_states else ()), RESPONSE)

    def weights(self, states: Iterable[str], state_prompts: float = 0.0) -> dict[str, float]:
        """How often each target is drawn, unless a run says otherwise: a state once, the response twice.

        Args:
            states: Names of the dimensions.
            state_prompts: For methods whose response prompt earns the states' rewards already: the share of prompts that ask for
                a state all the same, so that the model answers them too.
        """
        names = tuple(states)
        if self.credits_states:
            return dict.fromkeys(names, state_prompts / max(1, len(names))) | {RESPONSE: 1.0 - state_prompts}
        return {target: 2.0 if target == RESPONSE else 1.0 for target in self.targets(names)}

    def thinks(self, target: str) -> bool:
        """Whether the prompt for a target asks for reasoning."""
        return self.think and target == RESPONSE


METHODS: Mapping[str, Method] = MappingProxyType(
    {
        method.name: method
        for method in (
            Method("sft", "sft", False, False, "imitate the real responses"),
            Method("sft-think", "sft", False, True, "imitate thinking in tagged states and the real response", True),
            Method("grpo", "rl", False, False, "reward the response alone"),
            Method("grpo-think", "rl", False, True, "reward the response after free reasoning"),
            Method("humanlm", "rl", True, True, "reward each latent state, and the response that reasons over them"),
            Method("humanlm-trace", "rl", False, True, "reward each state of the reasoning, and the response", True),
        )
    }
)
"""Every method by name."""


def find_method(name: str) -> Method:
    """The method of that name.

    Raises:
        UsageError: There is none; names the nearest.
    """
    if name == "userlm":
        raise UsageError(
            "userlm is a public model that is evaluated and not trained: "
            "humanlm evaluate --model userlm:microsoft/UserLM-8b --data snap-stanford/humanual-chat ..."
        )
    if name not in METHODS:
        raise unknown_name("method", name, METHODS)
    return METHODS[name]
