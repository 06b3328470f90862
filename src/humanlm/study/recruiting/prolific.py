"""Prolific: a study is made as a draft, published, and stopped through the API (version 1)."""

import os
from typing import Any
from urllib.parse import quote

from humanlm.errors import UsageError
from humanlm.study.config import Study
from humanlm.study.recruiting.http import request_json

TOKEN_VARIABLE = "PROLIFIC_API_TOKEN"
_PARAMETERS = "PROLIFIC_PID={{%PROLIFIC_PID%}}&STUDY_ID={{%STUDY_ID%}}&SESSION_ID={{%SESSION_ID%}}"


def body(study: Study) -> dict[str, Any]:
    """What Prolific is told of a study.

    Raises:
        UsageError: Something that Prolific needs is not in the study file; names it.
    """
    recruiting, settings = study.recruiting, study.recruiting.prolific
    if settings is None:
        raise UsageError("recruiting.prolific is missing: say at least reward_cents")
    if recruiting.completion_code is None or recruiting.quota is None or study.server.public_url is None:
        raise UsageError("Prolific needs recruiting.completion_code, recruiting.quota and server.public_url")
    return {
        "name": study.title,
        "internal_name": f"{study.title} ({study.version})",
        "description": settings.description or study.about or study.title,
        "external_study_url": f"{study.server.public_url}/?{_PARAMETERS}",
        "prolific_id_option": "url_parameters",
        "completion_codes": [
            {
                "code": recruiting.completion_code,
                "code_type": "COMPLETED",
                "actions": [{"action": "MANUALLY_REVIEW"}],
            }
        ],
        "estimated_completion_time": study.minutes,
        "reward": settings.reward_cents,
        "total_available_places": recruiting.quota,
        "device_compatibility": ["desktop", "tablet", "mobile"],
        "filters": [dict(one) for one in settings.filters],
    }


def publish(study: Study) -> str:
    """Makes the study on Prolific and publishes it; gives its id there. From then on it costs money.

    Raises:
        UsageError: Something is missing in the study, or the token is not set.
        RunError: Prolific refuses.
    """
    told, url = body(study), _url(study)
    made = request_json("POST", f"{url}/studies/", told, _headers(), "Prolific")
    name = str(made["id"])
    request_json("POST", f"{url}/studies/{quote(name)}/transition/", {"action": "PUBLISH"}, _headers(), "Prolific")
    return name


def close(study: Study, name: str) -> None:
    """Stops a published study: nobody new can begin, those on their way can finish.

    Raises:
        UsageError: The token is not set.
        RunError: Prolific refuses.
    """
    where = f"{_url(study)}/studies/{quote(name)}/transition/"
    request_json("POST", where, {"action": "STOP"}, _headers(), "Prolific")


def _url(study: Study) -> str:
    return study.recruiting.prolific.api_url.rstrip("/") if study.recruiting.prolific else ""


def _headers() -> dict[str, str]:
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    if not token:
        raise UsageError(f"Prolific needs a token: set the environment variable {TOKEN_VARIABLE}")
    return {"Authorization": f"Token {token}"}
