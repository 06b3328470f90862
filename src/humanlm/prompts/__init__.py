"""Every prompt text: templates, their rendering for the seven targets, and the way to token ids."""

from humanlm.prompts.chat import CHAT_TEMPLATE, install_chat_template
from humanlm.prompts.templates import Prompts, prompt_ids, render_prompt

__all__ = ["CHAT_TEMPLATE", "Prompts", "install_chat_template", "prompt_ids", "render_prompt"]
