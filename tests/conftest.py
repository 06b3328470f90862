"""What all tests share: one deterministic hypothesis profile, the real sample rows, a small real tokenizer."""

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parents[1]

# The same inputs every time; no deadline, because shared machines stall; no database, because runs must not differ.
settings.register_profile(
    "house", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("house")


@pytest.fixture(scope="session")
def humanual_sample() -> Path:
    """The folder with five real rows of each published set: beside the repository, or where HUMANLM_SAMPLE says."""
    folder = Path(os.environ.get("HUMANLM_SAMPLE") or ROOT.parent / "shared" / "humanual-sample")
    if not folder.is_dir():
        pytest.skip(f"no sample rows at {folder}: set HUMANLM_SAMPLE")
    return folder


CHATML_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>", "<tool_call>", "</tool_call>")
"""Special and added tokens as Qwen3 tokenizers have them; the thinking and tool tags are added, not special."""


@pytest.fixture(scope="session")
def chatml_tokenizer() -> Any:
    """A byte-level BPE tokenizer of Qwen3's kind, trained on a few sentences: any text can be encoded."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import AddedToken, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    words = ["People say what they mean, more or less.", "I would never think of it: HUMAN response, stance, belief."]
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(words, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    fast.add_tokens([AddedToken(token, special=False, normalized=False) for token in CHATML_TOKENS[3:]])
    return fast
