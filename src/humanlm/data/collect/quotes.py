"""The turns of a mail: what its author wrote, and the messages that were quoted below it."""

import re
from typing import NamedTuple

_DEEPEST = 30
_GUARD = "\u2060"
_HEADERLIKE = re.compile(r"^((?:> ?)*)(\*?[-\w ]+:)")
_DATE = r"\d{1,2}/\d{1,2}/\d{2,4} \d{1,2}:\d{2}(?::\d{2})? ?(?:[AaPp][Mm])?"
# Lotus Notes writes who and when on lines of their own, above "To:"
_NOTES_TWO_LINES = re.compile(rf"(?:^|\n)([^\n]{{1,120}})\n[ \t]*{_DATE}[ \t]*$")
_NOTES_ONE_LINE = re.compile(rf"(?:^|\n)([^\n]{{1,120}}?) on {_DATE}[ \t]*$")
_FORWARDED = re.compile(r"^[ \t]*-{3,} ?Forwarded by [^\n]*\n?(?:[^\n]{0,80}-{3,}[ \t]*$)?", re.MULTILINE)
_SEPARATOR = re.compile(r"^[ \t]*-{3,} ?(?:Original Message|Forwarded message)[^\n]*$", re.MULTILINE | re.IGNORECASE)
_BLANKS = re.compile(r"\n{3,}")


class Turn(NamedTuple):
    """One message within a mail.

    Attributes:
        text: Its words without quotation marks.
        sender: Who wrote it, as the quotation says; empty where it does not.
        forwarded: Whether it was forwarded rather than answered.
    """

    text: str
    sender: str
    forwarded: bool


def split_mail(body: str) -> list[Turn]:
    """Splits the body of a mail, newest turn first; the first one is its author's own and may be empty.

    Args:
        body: The plain text of a mail.
    """
    import quotequail

    turns: list[Turn] = []
    text, sender, forwarded = _guarded(body), "", False
    for _ in range(_DEEPEST):
        found = quotequail.unwrap(text)
        if found is None or not found.get("text"):
            break
        top = "\n\n".join(part for part in (found.get("text_top"), found.get("text_bottom")) if part)
        noted, top = _notes_sender(top)
        passed_on = _FORWARDED.search(top) is not None or "forwarded message" in top.lower()
        turns += _own(top, sender, forwarded)
        if not turns:
            turns.append(Turn("", sender, forwarded))
        forwarded = passed_on
        sender, text = found.get("from") or noted, found["text"]
    turns += _own(text, sender, forwarded) or ([] if turns else [Turn("", "", False)])
    return turns


def _own(text: str, sender: str, forwarded: bool) -> list[Turn]:
    """A turn's own lines, and those it quotes with ``>`` between them as a turn of nobody we know."""
    lines = _SEPARATOR.sub("", _FORWARDED.sub("", text)).replace(_GUARD, "").split("\n")
    quoted = [line.lstrip("> ") for line in lines if line.startswith(">")]
    own = _tidy([line for line in lines if not line.startswith(">")])
    turns = [Turn(own, sender, forwarded)] if own else []
    if _tidy(quoted):
        if not turns:
            turns.append(Turn("", sender, forwarded))
        turns.append(Turn(_tidy(quoted), "", False))
    return turns


def _tidy(lines: list[str]) -> str:
    return _BLANKS.sub("\n\n", "\n".join(line.rstrip() for line in lines)).strip()


def _notes_sender(text: str) -> tuple[str, str]:
    """The sender that Lotus Notes leaves at the end of the text above a quotation, and the text without it."""
    text = text.rstrip()
    tail_from = max(0, len(text) - 300)
    tail = text[tail_from:]
    for pattern in (_NOTES_TWO_LINES, _NOTES_ONE_LINE):
        match = pattern.search(tail)
        if match:
            return match[1].strip(), text[: tail_from + match.start()].rstrip()
    return "", text


def _guarded(body: str) -> str:
    """Keeps lines such as ``Mike: here it is`` that open a quoted text from being taken for one of its headers."""
    lines = body.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    blank = False
    for index, line in enumerate(lines):
        match = _HEADERLIKE.match(line)
        if blank and match and match[2].strip("*: ").lower() not in _MAIL_HEADERS:
            lines[index] = f"{match[1]}{_GUARD}{line[len(match[1]) :]}"
        blank = not line.strip("> \t")
    return "\n".join(lines)


_MAIL_HEADERS = frozenset({"from", "to", "cc", "bcc", "sent", "date", "subject", "reply-to"})
