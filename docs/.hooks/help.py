"""What mkdocs does to every page: the help of each verb is put in, so that the page is never behind; marks of ours go."""

import re

from click.testing import CliRunner

from humanlm.cli import cli

_MARK = re.compile(r"^<!-- help: (.*) -->$", re.MULTILINE)
_NO_RUN = re.compile(r"^(```\w+) no-run$", re.MULTILINE)
"""Tells our tests to leave a block alone; to mkdocs it would be no fence, and everything up to the next one would be code."""


def _help(match: re.Match[str]) -> str:
    words = match[1].split()
    result = CliRunner().invoke(cli, [*words, "--help"], prog_name="humanlm")
    if result.exit_code != 0:
        raise RuntimeError(f"humanlm {match[1]} --help failed: {result.output}")
    return f"```text\n{result.output.strip()}\n```"


def on_page_markdown(markdown: str, **_: object) -> str:
    """Called by mkdocs for every page."""
    return _NO_RUN.sub(r"\1", _MARK.sub(_help, markdown))
