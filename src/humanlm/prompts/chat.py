"""From chat messages with people's names to the text that a model continues."""

from collections.abc import Sequence
from typing import Any

from humanlm.errors import ModelError

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}"
    "{{ '<|im_start|>assistant\n' }}"
    "{%- if not enable_thinking | default(false) -%}{{ '<think>\n\n</think>\n\n' }}{%- endif -%}"
    "{%- endif -%}"
)
"""ChatML in which every person keeps a name. Stock templates of Qwen3 models drop roles that they do not know."""

_MARKS = ("<|im_start|>", "<|im_end|>")


def speaks_chatml(tokenizer: Any) -> bool:
    """Whether the tokenizer has ChatML's marks, as all Qwen models do, so that our multi-role template fits."""
    vocabulary = tokenizer.get_vocab()
    return all(mark in vocabulary for mark in _MARKS)


def install_chat_template(tokenizer: Any) -> None:
    """Sets our multi-role template where it fits, so that it is saved with the checkpoint and used by servers."""
    if speaks_chatml(tokenizer):
        tokenizer.chat_template = CHAT_TEMPLATE


def chat_text(messages: Sequence[dict[str, str]], tokenizer: Any, *, think: bool) -> str:
    """Renders messages up to the place where the model goes on.

    Models with ChatML's marks get our multi-role template. Others get their own: the context becomes one user message in which
    each turn stands under its author's name, because such templates know only their own roles.

    Args:
        messages: The system message first, then one message a turn.
        tokenizer: A Hugging Face tokenizer.
        think: Whether the model reasons before it answers.

    Raises:
        ModelError: The model has neither ChatML's marks nor a chat template.
    """
    options = {"tokenize": False, "add_generation_prompt": True, "enable_thinking": think}
    if speaks_chatml(tokenizer):
        return str(tokenizer.apply_chat_template(list(messages), chat_template=CHAT_TEMPLATE, **options))
    if not tokenizer.chat_template:
        raise ModelError(
            f"{tokenizer.name_or_path}: no chat template and no ChatML tokens: use a chat model (e.g. Qwen3)"
        )
    from jinja2 import TemplateError

    system = messages[0]["content"]
    turns = "\n\n".join(f"{turn['role']}:\n{turn['content']}" for turn in messages[1:])
    try:
        return str(
            tokenizer.apply_chat_template(
                [{"role": "system", "content": system}, {"role": "user", "content": turns}], **options
            )
        )
    except TemplateError:  # some templates know no system role
        return str(tokenizer.apply_chat_template([{"role": "user", "content": f"{system}\n\n{turns}"}], **options))
