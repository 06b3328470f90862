"""Simulators whose weights are elsewhere: our own checkpoints behind a server, and hosted chat models."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from humanlm.errors import UsageError
from humanlm.example import Example
from humanlm.llm import LLM, Answer, Call, CallError, resolve
from humanlm.prompts import Prompts
from humanlm.prompts.chat import transcript
from humanlm.reply import Reply, parse_reply
from humanlm.simulation.card import ModelCard
from humanlm.simulation.limits import token_limit
from humanlm.simulation.loading import load_config, load_tokenizer, model_folder
from humanlm.simulation.simulator import Simulator
from humanlm.states import RESPONSE

API = "api:"
"""Before ``provider/model``: a hosted chat model instead of a folder."""

logger = logging.getLogger("humanlm.simulation")

_TOKENS_AS_THEY_ARE = {"add_special_tokens": False, "skip_special_tokens": False}
_KNOW_TOKENS = ("vllm", "sglang", "custom")


class _Output(NamedTuple):
    text: str
    ended: bool


class _Elsewhere(NamedTuple):
    """Stands where a local simulator has its model: only the configuration is known."""

    config: Any


class ServedSimulator(Simulator):
    """A checkpoint of ours behind an OpenAI-compatible server, asked through ``/completions`` with the prompt rendered here.

    A server's chat endpoint would render by its own template, which may drop names it does not know. Tokenizer, card and prompt
    templates come from the model's folder or Hub id; the weights stay on the server.
    """

    llm: LLM
    _warned: bool = False

    @classmethod
    def connect(
        cls,
        model: str | Path,
        url: str,
        *,
        served_as: str | None = None,
        think: bool | None = None,
        prompts: str | Path | None = None,
        llm: LLM | None = None,
    ) -> "ServedSimulator":
        """Makes a simulator of a served model.

        Args:
            model: The run folder, model folder or Hub id that the server has loaded.
            url: The server's base URL, e.g. ``http://localhost:8000/v1``.
            served_as: Its name there; by default ``model`` as it is written.
            think: Whether it reasons before it replies; by default as it was trained.
            prompts: A prompt set instead of the model's own.
            llm: The door to use instead of one made from the URL, e.g. with a ledger.

        Raises:
            ModelError: Tokenizer or configuration cannot be loaded.
            UsageError: The URL is none.
        """
        folder = model_folder(model)
        card, own = (ModelCard.read(folder) if folder else None) or (ModelCard(), None)
        used = Prompts.load(prompts) if prompts is not None else own or Prompts.load()
        tokenizer = load_tokenizer(model)
        config = load_config(model)
        thinks = card.think if think is None else think
        made = cls(str(model), _Elsewhere(config), tokenizer, card=card, prompts=used, think=thinks)
        made.llm = llm or LLM(resolve(served_as or str(model), url=url, kind="model"))
        return made

    def _generate(
        self,
        prompts: Sequence[Sequence[int]],
        limit: int,
        *,
        temperature: float,
        seed: int,
        no_repeat_ngram: int,
        batch_size: int,
    ) -> list[_Output]:
        if no_repeat_ngram and not self._warned:
            self._warned = True
            logger.warning(
                "%s: a server samples without the no-repeat rule: its replies may repeat themselves", self.name
            )
        calls = [self._call(list(prompt), limit, temperature, seed, place) for place, prompt in enumerate(prompts)]
        end = str(self.tokenizer.eos_token or "")
        return [
            _Output(answer.text.removesuffix(end) if end else answer.text, answer.finish != "length")
            for answer in _answers(self.llm, calls)
        ]

    def _call(self, ids: list[int], limit: int, temperature: float, seed: int, place: int) -> Call:
        text = str(self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))
        same = self.tokenizer(text, add_special_tokens=False)["input_ids"] == ids
        known = _TOKENS_AS_THEY_ARE if self.llm.endpoint.provider in _KNOW_TOKENS else {}
        return Call(
            prompt=text,
            ids=() if same else tuple(ids),  # a prompt cut inside a word may not survive as text
            purpose="simulate",
            temperature=temperature,
            max_tokens=limit,
            completion=True,
            seed=seed,
            salt=str(place),
            extra=tuple(sorted(known.items())),
        )


class ChatSimulator(Simulator):
    """A hosted chat model as the simulator, a baseline: it gets our system message, and the conversation as one user message.

    Chat interfaces know only their own roles, so each turn stands under its author's name. What such a model thinks is not shown.
    """

    llm: LLM

    @classmethod
    def connect(
        cls, spec: str, *, url: str | None = None, prompts: str | Path | None = None, llm: LLM | None = None
    ) -> "ChatSimulator":
        """Makes a simulator of ``provider/model``.

        Raises:
            UsageError: There is no such provider, or its key is not set.
        """
        used = Prompts.load(prompts) if prompts is not None else Prompts.load()
        made = cls(f"{API}{spec}", None, None, card=ModelCard(base_model=spec), prompts=used, think=False)
        made.llm = llm or LLM(resolve(spec, url=url, kind="model"))
        return made

    def token_limit(self, target: str) -> int:
        """New tokens a target may have."""
        self.prompts.check_target(target)
        return token_limit(target, self.prompts.states, think=False, own={}, positions=None)

    def replies(
        self,
        examples: Sequence[Example],
        target: str = RESPONSE,
        *,
        temperature: float = 0.4,
        seed: int = 0,
        max_new_tokens: int | None = None,
        no_repeat_ngram: int = 4,
        batch_size: int = 64,
    ) -> list[Reply]:
        """Replies to many examples, in their order; ``no_repeat_ngram`` and ``batch_size`` have no meaning here."""
        limit = (max_new_tokens or self.token_limit(target)) + self.llm.endpoint.reasoning_tokens
        calls = []
        for place, example in enumerate(examples):
            system, *turns = self.prompts.messages(example, target)
            calls.append(
                Call(
                    prompt=transcript(turns),
                    system=system["content"],
                    purpose="simulate",
                    target=target,
                    version=self.prompts.fingerprint,
                    temperature=temperature,
                    max_tokens=limit,
                    salt=f"{seed}.{place}",
                )
            )
        return [
            parse_reply(answer.text, target, ended=answer.finish != "length", states=self.prompts.states)
            for answer in _answers(self.llm, calls)
        ]


def connect(
    model: str | Path,
    *,
    url: str | None = None,
    served_as: str | None = None,
    think: bool | None = None,
    prompts: str | Path | None = None,
) -> Simulator:
    """The simulator that is not here: ``api:provider/model``, or a checkpoint of ours behind a URL.

    Raises:
        UsageError: An option does not fit.
        ModelError: The model's folder cannot be read.
    """
    name = str(model)
    if name.startswith(API):
        if think:
            raise UsageError(f"model {name!r}: what a hosted model thinks is not shown: leave out --think")
        return ChatSimulator.connect(name.removeprefix(API), url=url, prompts=prompts)
    if url is None:
        raise UsageError(f"model {name!r}: a served model needs its server's URL")
    return ServedSimulator.connect(model, url, served_as=served_as, think=think, prompts=prompts)


def _answers(llm: LLM, calls: Sequence[Call]) -> list[Answer]:
    """The answers; a simulator that does not answer is an error, for an empty reply would be scored."""
    answers: list[Answer] = []
    for answer in llm.ask(calls):
        if isinstance(answer, CallError):
            raise answer
        answers.append(answer)
    return answers
