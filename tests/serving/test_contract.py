"""The server keeps to its own OpenAPI document, whatever is sent (Schemathesis)."""

from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, settings

from humanlm.example import Persona
from humanlm.serving.app import make_app
from humanlm.serving.guard import Limits
from tests.serving.running import running
from tests.simulation.scripted import ScriptedSimulator


@pytest.fixture(scope="module")
def contract() -> Iterator[object]:
    guard = make_app({"person": ScriptedSimulator()}, {"ruth": Persona(text="68")}, limits=Limits(body_bytes=100_000))
    with running(guard) as base:
        yield schemathesis.openapi.from_url(f"{base}/v1/openapi.json")


schema = schemathesis.pytest.from_fixture("contract")


@schema.parametrize()
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_answer_keeps_to_the_document(case: schemathesis.Case) -> None:
    case.call_and_validate(timeout=20)
