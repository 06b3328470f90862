"""Puts the help of each verb into the command line page when the site is built, so that the page is never behind the program."""

import re

from click.testing import CliRunner

from humanlm.cli import cli

_MARK = re.compile(r"^<!-- help: (.*) -->$", re.MULTILINE)


def _help(match: re.Match[str]) -> str:
    words = match[1].split()
    result = CliRunner().invoke(cli, [*words, "--help"], prog_name="humanlm")
    if result.exit_code != 0:
        raise RuntimeError(f"humanlm {match[1]} --help failed: {result.output}")
    return f"```text\n{result.output.strip()}\n```"


def on_page_markdown(markdown: str, **_: object) -> str:
    """Called by mkdocs for every page."""
    return _MARK.sub(_help, markdown)
