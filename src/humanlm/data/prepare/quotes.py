"""Whether a persona gives away the response it stands with."""

import re
from functools import lru_cache

_QUOTED = re.compile(
    r'\\"([^"\\]{15,}?)\\"|(?<![\w\\:\[{,])"([^"\\:{}\[\]]{15,}?)"(?![\w:])|“([^”]{15,}?)”|«([^»]{15,}?)»|(?<!\w)[\'‘]([^\'’"\\]{15,}?)[\'’](?!\w)'
)
_FEWEST_WORDS = 4
_WINDOW, _STEP, _LONG = 8, 4, 11


@lru_cache(maxsize=4096)
def telling_parts(persona: str) -> tuple[str, ...]:
    """The parts of a persona (JSON or plain text) that must not stand in a response: quotations of at least four words, and
    windows of eight words from phrases long enough to be copied.
    """
    parts = {
        " ".join(text.split())
        for groups in _QUOTED.findall(persona)
        for text in groups
        if text.count(" ") + 1 >= _FEWEST_WORDS
    }
    for phrase in re.split(r'[":\n]|(?<=[.!?])\s', persona):
        words = phrase.replace("\\n", " ").split() if phrase.count(" ") >= _LONG - 1 else ()
        parts.update(" ".join(words[first : first + _WINDOW]) for first in range(0, len(words) - _WINDOW + 1, _STEP))
    return tuple(sorted(part.lower().rstrip(" .,!?;:…") for part in parts if part))


def gives_away(persona: str, response: str) -> bool:
    """Whether a telling part of the persona stands in the response."""
    parts = telling_parts(persona)
    if not parts:
        return False
    folded = response.lower()
    if "\n" in folded or "  " in folded:
        folded = " ".join(folded.split())
    return any(part in folded for part in parts)
