"""Make a small, untrained chat model, to try every command offline: python examples/tiny_model.py DATA OUT

The folder has the shape of a Qwen3 model (tokenizer with ChatML marks, chat template, weights) and knows nothing: it shows that
your data flows through every step, not how well anything works.
"""

import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AddedToken, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from humanlm import load_examples
from humanlm.prompts import install_chat_template


def make_tokenizer(texts: list[str], size: int = 2000) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of Qwen3's kind, learnt from the texts at hand."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    tokenizer.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in ("<think>", "</think>")])
    install_chat_template(tokenizer)
    return tokenizer


def make_model(tokenizer: PreTrainedTokenizerFast, seed: int = 0) -> Qwen3ForCausalLM:
    """A few hundred thousand random weights."""
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=32768,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    return Qwen3ForCausalLM(config)


def main(data: str, out: Path) -> None:
    texts = [
        text for example in load_examples(data) for text in (example.response, *(turn.text for turn in example.context))
    ]
    tokenizer = make_tokenizer(texts)
    model = make_model(tokenizer)
    tokenizer.save_pretrained(out)
    model.save_pretrained(out)
    print(f"{out}: {model.num_parameters():,} random weights, {len(tokenizer):,} tokens")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
