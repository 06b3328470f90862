"""One JSON request to a recruiter, with errors that say what to do and hold no token."""

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from humanlm.errors import RunError

_TIMEOUT_S = 30


def request_json(method: str, url: str, body: Any, headers: Mapping[str, str], who: str) -> dict[str, Any]:
    """Sends JSON and reads JSON. Not repeated on failure: a study published twice would be paid twice.

    Raises:
        RunError: The recruiter refuses or cannot be reached.
    """
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    told = {"Content-Type": "application/json", "Accept": "application/json", **headers}
    request = urllib.request.Request(url, data=content, headers=told, method=method)
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
            text = answer.read().decode("utf-8")
    except urllib.error.HTTPError as error:
        said = " ".join(error.read().decode("utf-8", "replace").split())[:300]
        raise RunError(f"{who} refuses ({error.code}): {said}") from error
    except (urllib.error.URLError, TimeoutError, OSError) as error:
        why = getattr(error, "reason", error)
        raise RunError(
            f"{who} cannot be reached ({why}): look there whether anything was made, then try again"
        ) from error
    try:
        found = json.loads(text) if text.strip() else {}
    except ValueError as error:
        raise RunError(f"{who} gave an answer that is no JSON: look there whether anything was made") from error
    return found if isinstance(found, dict) else {"results": found}
