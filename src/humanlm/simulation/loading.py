"""Loading model folders and Hub ids with errors a person can act on."""

import sys
from pathlib import Path
from typing import Any

from humanlm.errors import ModelError


def model_folder(model: str | Path) -> Path | None:
    """The local folder a model name stands for: a model folder, or ``model`` inside a run folder; None for a Hub id.

    Raises:
        ModelError: The path exists but holds no model, or is a path and does not exist.
    """
    path = Path(model).expanduser()
    if path.is_dir():
        for folder in (path, path / "model"):
            if (folder / "config.json").is_file():
                return folder
        hint = (
            "the run has no finished model yet, give RUN/checkpoints/step-N"
            if (path / "checkpoints").is_dir()
            else "config.json is missing"
        )
        raise ModelError(f"{model}: not a model folder ({hint}): give a Hugging Face folder, a run folder or a Hub id")
    if path.exists() or str(model).count("/") != 1 or str(model).startswith((".", "/", "~")):
        raise ModelError(
            f"{model}: no such model folder: give a Hugging Face folder, a run folder or a Hub id (owner/name)"
        )
    return None


def pick_device(device: str = "auto") -> str:
    """``cuda`` where there is one, else ``cpu``; any other word is taken as given."""
    import torch

    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


def load_tokenizer(model: str | Path) -> Any:
    """The tokenizer of a model folder or Hub id.

    Raises:
        ModelError: It cannot be loaded.
    """
    from transformers import AutoTokenizer

    folder = model_folder(model)
    try:
        return AutoTokenizer.from_pretrained(str(folder or model))
    except (OSError, ValueError, KeyError) as error:
        raise _cannot_load("tokenizer", model, error) from error


def load_weights(model: str | Path, *, device: str = "auto") -> Any:
    """The causal language model of a folder or Hub id, on a device: float32 on a CPU, bfloat16 elsewhere.

    Raises:
        ModelError: It cannot be loaded.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    folder, place = model_folder(model), pick_device(device)
    try:
        weights = AutoModelForCausalLM.from_pretrained(
            str(folder or model), dtype=torch.float32 if place == "cpu" else torch.bfloat16
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise _cannot_load("model", model, error) from error
    return weights.to(place)


def _cannot_load(what: str, model: str | Path, error: Exception) -> ModelError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return ModelError(
        f"{model}: cannot load the {what} ({reason}): check the folder or Hub id, the network and HF_TOKEN"
    )
