"""The JSON schemas of requests and answers: the requests are checked against them, and the OpenAPI document shows them.

One table, ``SCHEMAS``; every object of a request is closed, every number, text and list has an end.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from codesign_kernel.accelerator.catalog import names as machine_names
from codesign_kernel.accelerator.spatial import DATAFLOWS, LIMITS, SPATIAL_FIELDS, SWITCHES
from codesign_kernel.accelerator.types import DATA_BITS, FIELDS, MOST_LATENCY
from codesign_kernel.accelerator.types import DATAFLOWS as TEMPLATE_DATAFLOWS
from codesign_kernel.cost.table import RESULTS
from codesign_kernel.scopes import CAPABILITIES, ROLES
from codesign_kernel.scopes import LIMITS as SCOPE_LIMITS
from codesign_kernel.server.api.known import networks
from codesign_kernel.store.jobs import STATES

Schema = dict[str, Any]

#: Kinds of jobs and the path under which each is asked for.
KINDS: Mapping[str, str] = MappingProxyType(
    {
        "profile": "profiles",
        "evaluate": "evaluations",
        "explore": "explorations",
        "optimize": "optimizations",
        "generate": "rtl",
        "cosimulate": "cosimulations",
    }
)
#: Designs of one evaluation, choices of one field of a space, objectives, inputs of a co-simulation, networks of an
#: optimisation: at most.
DESIGNS, CHOICES, OBJECTIVES, VECTORS, NETWORKS = 2_000, 64, 8, 256, 200
SAMPLERS = ("auto", "exact", "random", "pymoo", "nsga2", "nsga3", "tpe", "gp")
SPACES = ("default", "large", "spatial")
SIMULATORS = ("auto", "verilator", "icarus", "ghdl", "myhdl")
NAME = "^[A-Za-z0-9][A-Za-z0-9 ._-]{0,79}$"
_ID = "^[0-9a-f]{32}$"


def _closed(properties: Mapping[str, Schema], required: tuple[str, ...] = (), **more: Any) -> Schema:
    needed = {"required": [*required]} if required else {}
    return {"type": "object", "properties": dict(properties), **needed, "additionalProperties": False, **more}


def _several(one: Schema, most: int, least: int = 0, **more: Any) -> Schema:
    return {"type": "array", "items": one, "minItems": least, "maxItems": most, **more}


def _text(most: int, **more: Any) -> Schema:
    return {"type": "string", "maxLength": most, **more}


def _whole(least: int, most: int, **more: Any) -> Schema:
    return {"type": "integer", "minimum": least, "maximum": most, **more}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _or_null(one: Schema) -> Schema:
    return {"anyOf": [one, {"type": "null"}]}


def _field(name: str) -> Schema:
    """One field of a machine, of either family; the machine's own laws are checked where it is built."""
    if name == "dataflow":
        return {"type": "string", "enum": sorted({*DATAFLOWS, *TEMPLATE_DATAFLOWS})}
    if name in SWITCHES:
        return {"type": "boolean"}
    if name == "memory_latency":
        return _whole(0, MOST_LATENCY)
    if name == "min_weight_bits":
        return _whole(0, max(DATA_BITS))
    if name in LIMITS:
        least, most = LIMITS[name]
        return _whole(0 if name == "acc_bits" else least, most)
    return {"type": "number", "minimum": 0, "maximum": 1e9}


_FIELDS = {name: _field(name) for name in dict.fromkeys((*FIELDS, *SPATIAL_FIELDS))}
_MACHINES = [name for name in machine_names() if not name.startswith(("nvdla", "eyeriss"))]
_GENERATED = [name for name in _MACHINES if name.startswith("generator")]
_NETWORK: Schema = {"type": "string", "enum": sorted(networks()), "description": "a name of GET /models"}
_TRAINED: Schema = {"type": "string", "enum": sorted(n for n, one in networks().items() if one["trained"])}
_DIGITS: Schema = {"type": "string", "enum": [n for n in _TRAINED["enum"] if n != "keywords"]}
_OBJECTIVE: Schema = {"type": "string", "enum": [*RESULTS]}
_LIMIT: Schema = {
    "anyOf": [
        {"type": "number", "minimum": -1e18, "maximum": 1e18},
        _several(_or_null({"type": "number", "minimum": -1e18, "maximum": 1e18}), 2, 2),
    ],
    "description": "the most it may be (the least for utilization), or [least, most] with null for none",
}


def _machine(templates: list[str], told: str) -> Schema:
    alone = {"required": ["rows", "cols"], "not": {"required": ["template"]}}
    ways = [alone, {"required": ["template"], "maxProperties": 1}]
    return _closed({"template": {"type": "string", "enum": templates}, **_FIELDS}, anyOf=ways, description=told)


_CHOICES = _closed(
    {name: {"anyOf": [one, _several(one, CHOICES, 1)]} for name, one in _FIELDS.items()}, ("rows", "cols")
)
_MOMENT: Schema = {"type": "string", "format": "date-time"}

REQUESTS: dict[str, Schema] = {
    "KeepRequest": _closed({"name": _text(80, pattern=NAME), "content": {"type": "object"}}, ("name", "content")),
    "Machine": _machine(_MACHINES, "a name of GET /templates, or a design of one's own"),
    "Generated": _machine(_GENERATED, "a template whose RTL can be generated, or a design of one's own"),
    "Space": {
        "anyOf": [
            {"type": "string", "enum": [*SPACES]},
            _CHOICES,
        ],
        "description": "a space by name, or the choices for each field of a design",
    },
    "ProfileRequest": _closed(
        {
            "model": {**_NETWORK, "description": "a name of GET /models; or give upload"},
            "upload": {"type": "string", "pattern": _ID, "description": "an artefact of POST /uploads; or give model"},
            "name": _text(80, pattern=NAME),
        },
        oneOf=[{"required": ["model"]}, {"required": ["upload"]}],
    ),
    "EvaluationRequest": _closed(
        {"network": _NETWORK, "designs": _several(_ref("Machine"), DESIGNS, 1)}, ("network", "designs")
    ),
    "ExplorationRequest": _closed(
        {
            "network": _NETWORK,
            "space": _ref("Space"),
            "objectives": _several(_OBJECTIVE, OBJECTIVES, 1, uniqueItems=True),
            "constraints": _closed(dict.fromkeys(RESULTS, _LIMIT)),
            "sampler": {"type": "string", "enum": [*SAMPLERS]},
            "budget": _whole(1, 10**9),
            "seed": _whole(0, 2**31 - 1),
            "workers": _whole(
                1, SCOPE_LIMITS["workers"].most, description="outside the sandbox; without, one process does it"
            ),
            "name": _text(
                80, pattern=NAME, description="of a study: designs that were evaluated under it before are not again"
            ),
        },
        ("network",),
    ),
    "OptimizationRequest": _closed(
        {
            "network": {**_DIGITS, "description": "it learns digits, then with fewer channels and narrower weights"},
            "space": {
                **_CHOICES,
                "description": "the choices for each field of a generated machine; a small one without",
            },
            "objectives": _several(_OBJECTIVE, OBJECTIVES - 1, 1, uniqueItems=True, description="beside the accuracy"),
            "constraints": _closed(dict.fromkeys(("accuracy", "power_w", *RESULTS), _LIMIT)),
            "budget": _whole(1, NETWORKS, description="networks to train and try on every machine; 16 without"),
            "epochs": _whole(1, 100, description="of the first training; as many as the network needs without"),
            "seed": _whole(0, 2**31 - 1),
            "name": _text(
                80, pattern=NAME, description="of a study: networks that were trained under it before are not again"
            ),
        },
        ("network",),
    ),
    "RtlRequest": _closed({"design": _ref("Generated")}, ("design",)),
    "CosimulationRequest": _closed(
        {
            "design": _ref("Generated"),
            "network": _TRAINED,
            "vectors": _whole(1, VECTORS),
            "simulator": {"type": "string", "enum": [*SIMULATORS]},
            "epochs": _whole(1, 100, description="of the training; as many as the network needs without"),
            "seed": _whole(0, 2**31 - 1),
        },
        ("design", "network"),
    ),
}

_PERSON = _closed(
    {
        "subject": _text(32), "name": _text(200), "role": {"type": "string", "enum": [*ROLES]}, "via": _text(16),
        "scope": _ref("Scope"),
    },
    ("subject", "name", "role", "via", "scope"),
)  # fmt: skip
_FILE = _closed(
    {
        "id": _text(32, pattern=_ID), "name": _text(200), "media_type": _text(100), "size": _whole(0, 2**40),
        "digest": _text(64), "job": _or_null(_text(32, pattern=_ID)), "created_at": _MOMENT,
        "expires_at": _or_null(_MOMENT), "href": _text(400),
    },
    ("id", "name", "media_type", "size", "digest", "job", "created_at", "expires_at", "href"),
)  # fmt: skip
_JOB = {
    "id": _text(32, pattern=_ID), "kind": {"type": "string", "enum": [*KINDS]},
    "state": {"type": "string", "enum": [*STATES]}, "scope": _text(200),
    "done": {"type": "number", "minimum": 0, "maximum": 1}, "message": _text(400), "error": _text(4_000),
    "attempt": _whole(0, 100), "created_at": _MOMENT, "started_at": _or_null(_MOMENT),
    "finished_at": _or_null(_MOMENT), "expires_at": _or_null(_MOMENT), "href": _text(400),
}  # fmt: skip

ANSWERS: dict[str, Schema] = {
    "Error": _closed({"error": _closed({"code": _text(60), "message": _text(4_000)}, ("code", "message"))}, ("error",)),
    "Index": _closed(
        {"version": _text(20), "links": {"type": "object", "additionalProperties": _text(400)}}, ("version", "links")
    ),
    "Scope": _closed(
        {
            "name": _text(200),
            "title": _text(200),
            "summary": _text(2_000),
            "open_to": {"type": "string", "enum": [*ROLES]},
            "capabilities": _several({"type": "string", "enum": [*CAPABILITIES]}, 50),
            "models": _several(_text(200), 1_000),
            "templates": _several(_text(200), 1_000),
            "network": _text(20),
            "limits": _closed({name: _whole(0, limit.most) for name, limit in SCOPE_LIMITS.items()}),
        },
        ("name", "open_to", "capabilities", "models", "templates", "network", "limits"),
    ),
    "Person": _PERSON,
    "Scopes": _closed({"scopes": _several(_ref("Scope"), 1_000)}, ("scopes",)),
    "Models": _closed(
        {
            "models": _several(
                _closed(
                    {
                        "name": _text(200),
                        "macs": _whole(0, 10**18),
                        "parameters": _whole(0, 10**18),
                        "inputs": _several(_several(_whole(0, 2**40), 16), 10_000),
                        "trained": {"type": "boolean"},
                        "allowed": {"type": "boolean"},
                    },
                    ("name", "macs", "parameters", "inputs", "trained", "allowed"),
                ),
                1_000,
            )
        },
        ("models",),
    ),
    "Templates": _closed(
        {
            "templates": _several(
                _closed(
                    {"name": _text(200), "generated": {"type": "boolean"}, "allowed": {"type": "boolean"}},
                    ("name", "generated", "allowed"),
                ),
                1_000,
            )
        },
        ("templates",),
    ),
    "Job": _closed({**_JOB, "result": {}}, tuple(_JOB)),
    "Jobs": _closed(
        {"jobs": _several(_closed(_JOB, tuple(_JOB)), 200), "next": _or_null(_text(400))}, ("jobs", "next")
    ),
    "Artefact": _FILE,
    "Artefacts": _closed(
        {"artefacts": _several(_ref("Artefact"), 200), "next": _or_null(_text(400))}, ("artefacts", "next")
    ),
    "Result": _closed(
        {"job": _text(32, pattern=_ID), "kind": _text(32), "result": {}, "artefacts": _several(_ref("Artefact"), 200)},
        ("job", "kind", "result", "artefacts"),
    ),
}

SCHEMAS: Mapping[str, Schema] = MappingProxyType({**REQUESTS, **ANSWERS})
#: The schema of a job's request, by kind.
REQUEST_OF: Mapping[str, str] = MappingProxyType(
    {
        "profile": "ProfileRequest", "evaluate": "EvaluationRequest", "explore": "ExplorationRequest",
        "optimize": "OptimizationRequest", "generate": "RtlRequest", "cosimulate": "CosimulationRequest",
    }
)  # fmt: skip
