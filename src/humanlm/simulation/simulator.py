"""A simulator: a model that answers as one person would."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from humanlm.errors import ModelError, UsageError
from humanlm.example import Example, Persona, Turn
from humanlm.prompts import Prompts
from humanlm.reply import Reply, parse_reply
from humanlm.simulation.card import ModelCard
from humanlm.simulation.limits import positions_of, token_limit
from humanlm.simulation.loading import load_tokenizer, load_weights, model_folder
from humanlm.states import RESPONSE


class Simulator:
    """Answers as the person a persona describes. Make one with :meth:`load`.

    Attributes:
        name: What the model was loaded as.
        card: How the model was made.
        prompts: The templates it is asked with.
        think: Whether it reasons before it replies.
    """

    def __init__(
        self, name: str, model: Any, tokenizer: Any, *, card: ModelCard, prompts: Prompts, think: bool
    ) -> None:
        self.name, self.card, self.prompts, self.think = name, card, prompts, think
        self.model, self.tokenizer = model, tokenizer

    @classmethod
    def load(
        cls,
        model: str | Path,
        *,
        device: str = "auto",
        think: bool | None = None,
        prompts: str | Path | None = None,
        url: str | None = None,
        served_as: str | None = None,
    ) -> "Simulator":
        """Loads a run folder, a Hugging Face folder or a Hub id, or connects to where it is served.

        A model trained by HumanLM brings its own prompt templates; any other is asked with the package's.

        Args:
            model: What to load; ``api:provider/model`` for a hosted chat model.
            device: ``auto``, ``cpu``, ``cuda`` ...
            think: Whether it reasons before it replies; by default as it was trained, else not.
            prompts: A built-in prompt set or a folder, instead of the model's own.
            url: An OpenAI-compatible server that has loaded this model; then only its tokenizer is loaded here.
            served_as: The model's name on that server; by default ``model``.

        Raises:
            ModelError: There is no such model, or it cannot be loaded.
            UsageError: There is no such prompt set, provider or key.
        """
        if url is not None or str(model).startswith("api:"):
            from humanlm.simulation.served import connect

            return connect(model, url=url, served_as=served_as, think=think, prompts=prompts)
        folder = model_folder(model)
        card, own = (ModelCard.read(folder) if folder else None) or (ModelCard(), None)
        used = Prompts.load(prompts) if prompts is not None else own or Prompts.load()
        weights, tokenizer = load_weights(model, device=device), load_tokenizer(model)
        return cls(
            str(model), weights.eval(), tokenizer, card=card, prompts=used, think=card.think if think is None else think
        )

    def reply(
        self,
        persona: Persona | str | dict[str, Any],
        context: str | Sequence[Turn],
        *,
        target: str = RESPONSE,
        temperature: float = 0.4,
        seed: int = 0,
        max_new_tokens: int | None = None,
    ) -> Reply:
        """What this person would answer.

        Args:
            persona: Text, a mapping as in the datasets, or a :class:`Persona`.
            context: The post to answer, as text, or the whole thread as turns, oldest first.
            target: ``response``, or a state's name to hear what is on the person's mind.
            temperature: 0 is deterministic.
            seed: Decides the sample.
            max_new_tokens: By default the target's own limit.

        Raises:
            UsageError: The context is empty, or there is no such target.
        """
        turns = (Turn(author="somebody", text=context),) if isinstance(context, str) else tuple(context)
        if not turns or not any(turn.text.strip() for turn in turns):
            raise UsageError("the context is empty: give the post or the thread to answer")
        example = Example(id="asked", user_id="asked", persona=Persona.parse(persona), context=turns, response="-")
        return self.replies([example], target, temperature=temperature, seed=seed, max_new_tokens=max_new_tokens)[0]

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
        """Replies to many examples, in their order. Temperature 0.4 and no repeated 4-gram are the paper's evaluation settings.

        Args:
            examples: Persona and context of each; their responses are not looked at.
            target: ``response`` or a state's name.
            temperature: 0 is deterministic.
            seed: Decides the samples, together with the batches.
            max_new_tokens: By default the target's own limit.
            no_repeat_ngram: 0 allows repetitions.
            batch_size: Prompts generated at once.
        """
        think, states = self.thinks(target), self.prompts.states
        limit = max_new_tokens or self.token_limit(target)
        outputs = self._generate(
            self._prompts(examples, target, limit),
            limit,
            temperature=temperature,
            seed=seed,
            no_repeat_ngram=no_repeat_ngram,
            batch_size=batch_size,
        )
        return [parse_reply(output.text, target, think=think, ended=output.ended, states=states) for output in outputs]

    def _generate(
        self,
        prompts: Sequence[Sequence[int]],
        limit: int,
        *,
        temperature: float,
        seed: int,
        no_repeat_ngram: int,
        batch_size: int,
    ) -> Sequence[Any]:
        """One output a prompt with ``text`` and ``ended``; where the weights are elsewhere, a subclass asks there."""
        from humanlm.simulation.generate import generate_batches

        return generate_batches(
            self.model,
            self.tokenizer,
            prompts,
            max_new_tokens=[limit] * len(prompts),
            temperature=temperature,
            seed=seed,
            no_repeat_ngram=no_repeat_ngram,
            batch_size=batch_size,
        )

    def thinks(self, target: str) -> bool:
        """States are never reasoned about; the response is, if the model is a thinking one."""
        return self.think and target == RESPONSE

    def token_limit(self, target: str) -> int:
        """New tokens a target may have: as it was trained, else as :func:`humanlm.simulation.limits.token_limit` says."""
        self.prompts.check_target(target)
        states, own = self.prompts.states, self.card.max_tokens
        return token_limit(target, states, think=self.think, own=own, positions=positions_of(self.model))

    def _prompts(self, examples: Sequence[Example], target: str, limit: int) -> list[list[int]]:
        positions = positions_of(self.model)
        room = positions - limit if positions else None
        if room is not None and room <= 0:
            raise ModelError(
                f"{self.name}: has {positions} positions, {limit} new tokens leave no room for a prompt: lower max_new_tokens"
            )
        think = self.thinks(target)
        return [self.prompts.ids(example, target, self.tokenizer, think=think, max_tokens=room) for example in examples]
