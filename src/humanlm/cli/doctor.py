"""`humanlm doctor`: what is installed, on which device, and what would run."""

import importlib.metadata
import importlib.util
import json
import os
import platform

import click

from humanlm import __version__

_PARTS = {
    "train": ("torch", "transformers", "trl", "datasets", "accelerate"),
    "lora": ("peft",),
    "embed": ("sentence_transformers",),
}
_KEYS = (
    "HF_TOKEN",
    "WANDB_API_KEY",
    "YOUTUBE_API_KEY",
    "REDDIT_CLIENT_ID",
    "REDDIT_CLIENT_SECRET",
    "RAPIDAPI_KEY",
)


@click.command(name="doctor")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(as_json: bool) -> int:
    """Say what is installed, which keys are set (never their values), which device there is, and what would run."""
    installed = {module: _version(module) for modules in _PARTS.values() for module in modules}
    ready = {part: all(installed[module] for module in modules) for part, modules in _PARTS.items()}
    from humanlm.llm.providers import providers

    served = [str(entry["key"]) for entry in providers().values() if entry.get("key") and not entry.get("key_optional")]
    keys = {key: bool(os.environ.get(key)) for key in (*_KEYS, *served)}
    report = {
        "humanlm": __version__,
        "python": platform.python_version(),
        "installed": installed,
        "device": _device() if installed["torch"] else "unknown (torch is not installed)",
        "cores": os.cpu_count(),
        "keys_set": keys,
        "ready": {"train": ready["train"], "lora": ready["lora"], "embedding judge": ready["train"] and ready["embed"]},
    }
    if as_json:
        click.echo(json.dumps(report, indent=1))
        return 0
    click.echo(f"humanlm {__version__}, Python {report['python']}, {report['cores']} cores, device: {report['device']}")
    for module, version in installed.items():
        click.echo(f"  {module:<22} {version or 'not installed'}")
    for key, is_set in keys.items():
        click.echo(f"  {key:<22} {'set' if is_set else 'not set'}")
    for part, fine in ready.items():
        click.echo(f"{part}: {'ready' if fine else f'missing, install it: pip install humanlm[{part}]'}")
    return 0


def _version(module: str) -> str | None:
    if importlib.util.find_spec(module) is None:
        return None
    return importlib.metadata.version(module.replace("_", "-"))


def _device() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
