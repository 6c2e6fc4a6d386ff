"""A gateway starts light: what it does not use it does not load, and what it puts off works when somebody asks."""

from __future__ import annotations

import colorsys
import json
import subprocess
import sys

import pytest

pytest.importorskip("voila")

from codesign_kernel.server.late import Late

#: Says what is loaded where a gateway could begin to listen, and what a checker says that was put off.
STARTS = """
import json, sys
import codesign_kernel.server.app
loaded = sorted({name.partition(".")[0] for name in sys.modules})
import jsonschema
conforms = jsonschema.Draft202012Validator.FORMAT_CHECKER.conforms
said = [conforms(text, "iri") for text in ("http://a.example/\u00e4", "http://a example/", "no address")]
print(json.dumps([loaded, said, "lark" in sys.modules]))
"""


def test_a_gateway_loads_nothing_heavy() -> None:
    command = [sys.executable, "-W", "ignore", "-c", STARTS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    loaded, said, late = json.loads(done.stdout)
    assert {"voila", "sqlalchemy", "jsonschema"} <= set(loaded), "the check sees what is loaded"
    heavy = {"torch", "dask", "distributed", "pandas", "plotly", "ipywidgets", "IPython", "myhdl", "numba", "lark"}
    assert heavy & set(loaded) == set()
    assert said == [True, False, False]
    assert late


def test_what_stands_for_a_module_loads_it_once_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    stands = Late("colorsys", "rgb_to_hsv")
    monkeypatch.setitem(sys.modules, "colorsys", stands)
    from colorsys import rgb_to_hsv

    assert sys.modules["colorsys"] is stands
    assert rgb_to_hsv(1, 0, 0) == colorsys.rgb_to_hsv(1, 0, 0)
    assert sys.modules["colorsys"] is not stands
    assert stands.ONE_THIRD == colorsys.ONE_THIRD
    with pytest.raises(AttributeError):
        _ = stands.no_such_name
