"""Small random models in the shape of Qwen3, for tests."""

from typing import Any


def tiny_qwen(tokenizer: Any, *, seed: int = 0, **shape: Any) -> Any:
    """A model for a tokenizer; ``shape`` overrides its few thousand weights' arrangement."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    usual = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 128,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": None,
    }
    torch.manual_seed(seed)
    return Qwen3ForCausalLM(Qwen3Config(**usual | shape))
