"""The OpenAPI document, and the running API held against it."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from apicases import Served, api

from codesign_kernel.server.api.openapi import openapi

__all__ = ["api"]  # a fixture


def test_the_document_is_open_api(api: Served) -> None:
    from jsonschema import Draft202012Validator

    told = openapi("/api/v1")
    with api.asker() as http:
        assert http.get("openapi.json").json() == json.loads(json.dumps(told))
    for schema in told["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    names = [one["operationId"] for path in told["paths"].values() for one in path.values()]
    assert len(names) == len(set(names))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore")  # schemathesis's own
def test_schemathesis_finds_nothing(api: Served) -> None:
    """Every operation with 10 lawful and 10 unlawful requests; four checks, none left out, nowhere."""
    import schemathesis
    from hypothesis import HealthCheck, given, seed, settings
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

    checks = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
    document = openapi("/api/v1")
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=f"{api.url}/api")
    asked: dict[str, int] = {}
    modes = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
    for found, mode in itertools.product([*schema.get_all_operations()], modes):
        operation = found.ok()

        @seed(7)
        @settings(max_examples=10, deadline=None, database=None, suppress_health_check=[*HealthCheck])
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case: Any) -> None:
            asked[case.operation.label] = asked.get(case.operation.label, 0) + 1
            headers = {"Authorization": "Bearer ann"}
            case.call_and_validate(headers=headers, checks=checks, timeout=60)

        check()
    assert len(asked) == sum(len(path) for path in document["paths"].values())
