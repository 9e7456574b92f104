"""The documented interface, tried with generated requests: no 500, and every answer as it is documented."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from serving import build_index, serving

schemathesis = pytest.importorskip("schemathesis")
# The limits of values are settings of the service, which the interface cannot state: what is beyond them is refused.
positive_data_acceptance = pytest.importorskip("schemathesis.specs.openapi.checks").positive_data_acceptance
# Some refusals are documented server errors: 501 without ffmpeg, 503 while much is waiting, 504 for slow decoding. Which of
# them come depends on the machine, so they are as good as any documented answer; 500 is not documented anywhere.
not_a_server_error = schemathesis.checks.not_a_server_error


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, tiny_trained_model: Any) -> Path:
    folder = tmp_path_factory.mktemp("serve-schema")
    return build_index(folder / "my.index", tiny_trained_model, folder / "clips")


@pytest.fixture(scope="module")
def client(index: Path, tiny_trained_model: Any) -> Iterator[Any]:
    with serving(index, model=tiny_trained_model) as client:
        yield client


KNOWN = {"index": "my.index", "id": "green"}
"""Names that lead further than generated ones."""
ADDRESSES = {
    "/api/additions": "get",
    "/api/additions/file": "post",
    "/api/additions/folder": "post",
    "/api/explain": "get",
    "/api/indexes": "get",
    "/api/indexes/{name}": "get",
    "/api/login": "post",
    "/api/logout": "post",
    "/api/more_like": "get",
    "/api/occurrences": "get",
    "/api/pictures": "post",
    "/api/relevance": "get",
    "/api/search": "get",
    "/api/search/image": "post",
    "/api/session": "get",
    "/api/start": "get",
    "/api/video": "get",
    "/api/video/clip": "get",
    "/api/video/media": "get",
    "/api/video/thumbnail": "get",
    "/api/videos": "get",
    "/healthz": "get",
    "/metrics": "get",
    "/readyz": "get",
}


@pytest.mark.parametrize("path", ADDRESSES)
def test_generated_requests(path: str, client: Any) -> None:
    documented = schemathesis.openapi.from_dict(client.get("/api/openapi.json").json())

    @given(case=documented[path][ADDRESSES[path]].as_strategy())
    @settings(max_examples=10, suppress_health_check=list(HealthCheck))
    def answered(case: Any) -> None:
        case.query = {name: KNOWN.get(name, value) for name, value in (case.query or {}).items()}
        request = case.as_transport_kwargs(base_url="http://127.0.0.1")
        response = client.request(**{name: value for name, value in request.items() if value is not None})
        assert response.status_code != 500, response.text
        case.validate_response(response, excluded_checks=[positive_data_acceptance, not_a_server_error])

    answered()


def test_all_addresses_are_documented(client: Any) -> None:
    described = client.get("/api/openapi.json").json()
    assert {path: next(iter(methods)) for path, methods in described["paths"].items()} == ADDRESSES
    for methods in described["paths"].values():
        for operation in methods.values():
            assert operation["description"]
            assert operation["responses"]["422"]["content"]["application/json"]["schema"] == {
                "$ref": "#/components/schemas/ErrorAnswer"
            }
