"""Imitation on TRL: the same schedule, prompts and end token as the other methods; loss on the answer only."""

from __future__ import annotations

from array import array
from typing import Any

import torch
from datasets import Dataset
from trl import SFTConfig, SFTTrainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from humanlm.errors import DataError
from humanlm.simulation.generate import end_token_ids
from humanlm.simulation.limits import positions_of
from humanlm.training.plan import Plan
from humanlm.training.schedule import Item
from humanlm.training.trl.engine import arguments
from humanlm.training.trl.lora import adapters
from humanlm.training.trl.watch import Watch

_IGNORED = -100
"""The label of tokens without loss, as everywhere in transformers."""


class Sequences:
    """Prompt and answer of every item as token ids. The answer is never cut: where room is short, the prompt gives way.

    Args:
        plan: The run.
        model: The model, for its number of positions and its end token.
        tokenizer: Its tokenizer.

    Raises:
        DataError: An answer leaves no room for its prompt.
    """

    def __init__(self, plan: Plan, model: Any, tokenizer: Any) -> None:
        self.plan = plan
        self._collate = DataCollatorForLanguageModeling(pad_token_id=tokenizer.pad_token_id)
        self._pairs: dict[tuple[int, str, str], tuple[array[int], array[int]]] = {}
        positions, end = positions_of(model), end_token_ids(model, tokenizer)[0]
        for item in plan.items:
            key = (item.example_index, item.target, item.persona)
            if key not in self._pairs:
                self._pairs[key] = self._pair(item, tokenizer, positions, end)

    def rows(self) -> Dataset:
        """The schedule as TRL's dataset: item numbers, turned into tensors by :meth:`collate`."""
        return Dataset.from_dict({"item": list(range(len(self.plan.items)))})

    def collate(self, rows: list[dict[str, int]]) -> dict[str, torch.Tensor]:
        """A padded batch of the rows' items."""
        features = []
        for row in rows:
            prompt, answer = self._of(self.plan.items[row["item"]])
            labels = [_IGNORED] * len(prompt) + answer.tolist()
            features.append({"input_ids": prompt.tolist() + answer.tolist(), "labels": labels})
        batch: dict[str, torch.Tensor] = self._collate(features)
        return batch

    def report(self, step: int) -> dict[str, Any]:
        """The update's numbers."""
        items = self.plan.at(step)
        pairs = [self._of(item) for item in items]
        values: dict[str, Any] = {"reward": None}
        for target in dict.fromkeys(item.target for item in items):
            lengths = [len(pair[1]) for item, pair in zip(items, pairs, strict=True) if item.target == target]
            values[f"length/{target}"] = sum(lengths) / len(lengths)
        prompt_tokens, answer_tokens = (sum(len(pair[part]) for pair in pairs) for part in (0, 1))
        counts = {"sequences": len(items), "tokens/prompt": prompt_tokens, "tokens/learnt": answer_tokens}
        return values | counts | {"seconds": {}}

    def _of(self, item: Item) -> tuple[array[int], array[int]]:
        return self._pairs[item.example_index, item.target, item.persona]

    def _pair(self, item: Item, tokenizer: Any, positions: int | None, end: int) -> tuple[array[int], array[int]]:
        example = self.plan.examples[item.example_index]
        tokens = frozenset(tokenizer.get_added_vocab())
        thinking = self.plan.traces[item.example_index] if self.plan.traces is not None and item.think else None
        text = self.plan.prompts.completion(item.target, example.response, thinking=thinking, tokens=tokens)
        answer = [*tokenizer(text, add_special_tokens=False)["input_ids"], end]
        room = self.plan.config.max_prompt_tokens
        if positions is not None:
            room = min(room, positions - len(answer))
        if room <= 0:
            raise DataError(
                f"example {example.id!r}: its response needs {len(answer)} tokens, the model has {positions} positions: "
                "leave it out or use a model with more"
            )
        prompt = self.plan.prompts.ids(self.plan.shown(item), item.target, tokenizer, think=item.think, max_tokens=room)
        return array("l", prompt), array("l", answer)


class ImitationTrainer(SFTTrainer):  # type: ignore[misc]
    """TRL's SFT trainer without its own card."""

    def create_model_card(self, *args: Any, **more: Any) -> None:
        """TRL's card describes TRL; ours is humanlm.json."""


def make_sft(plan: Plan, model: Any, tokenizer: Any) -> tuple[ImitationTrainer, Watch]:
    """The trainer and its watch for imitation."""
    sequences = Sequences(plan, model, tokenizer)
    settings = SFTConfig(
        **arguments(plan),
        max_length=None,
        packing=False,
        train_sampling_strategy="sequential",
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    trainer = ImitationTrainer(
        model=model,
        args=settings,
        train_dataset=sequences.rows(),
        data_collator=sequences.collate,
        processing_class=tokenizer,
        peft_config=adapters(plan.config),
    )
    return trainer, Watch(plan, sequences.report, lambda: "")
