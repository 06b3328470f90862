"""LoRA: what is trained instead of the weights, and the plain model that comes of it."""

from pathlib import Path
from typing import Any

from humanlm.simulation.loading import base_of, load_weights, need_peft
from humanlm.training.config import TrainConfig

LEFT_OUT = ("adapter_config.json", "adapter_model.safetensors")
"""What a checkpoint of adapters holds and the merged model does not."""


def adapters(config: TrainConfig) -> Any:
    """The trainer's ``peft_config``: adapters on every linear layer but the head; None where all weights are trained.

    Raises:
        UsageError: peft is not installed.
    """
    if not config.lora:
        return None
    return need_peft().LoraConfig(
        r=config.lora, lora_alpha=2 * config.lora, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
    )


def write_merged(checkpoint: Path, folder: Path) -> None:
    """Writes base and adapters as one plain model, which any program loads, in the precision that the base is stored in.

    Args:
        checkpoint: Holds the adapters.
        folder: Where the weights go.
    """
    from transformers import AutoConfig

    merged = load_weights(checkpoint, device="cpu")
    stored = AutoConfig.from_pretrained(base_of(checkpoint)).dtype
    merged.to(stored or merged.dtype).save_pretrained(folder)
