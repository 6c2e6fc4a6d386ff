"""What the apps are put together of: stored networks, designs under conditions, the source of networks, the quiz."""

from __future__ import annotations

import gc
import io
import pickle
import random
import resource
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ipywidgets
import numpy as np
import pytest

import codesign_kernel as ck
from codesign_kernel import scopes
from codesign_kernel.errors import InfeasibleDesignError, InvalidInputError, ScopeError
from codesign_kernel.figures.quiz import judged, questions
from codesign_kernel.profiler.packing import pack
from codesign_kernel.profiler.stored import stored_names, stored_profile
from codesign_kernel.session import catalogue, designs

codesign_widgets = pytest.importorskip("codesign_widgets")

A, B = np.arange(12).reshape(4, 3) - 6, np.arange(6).reshape(3, 2) - 3
#: What a page may send instead of what it should.
HOSTILE: tuple[Any, ...] = (
    None,
    True,
    -1,
    99,
    1.5,
    1e400,
    "0",
    "<img src=x>",
    [],
    [0],
    {},
    {"at": 0},
    b"x",
    "x" * 10_000,
)
PROFILER = 'title = "T"\ncapabilities = ["profile", "upload"]\nmodels = ["lenet5"]\n[limits]\nupload_bytes = 4096\n'


@pytest.mark.parametrize("name", ["lenet5", "mlperf_tiny_ad"])
def test_a_stored_network_is_what_it_is_profiled_as(name: str) -> None:
    assert pack(stored_profile(name)) == pack(ck.profile(*ck.zoo.build(name), name))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in stored_names() if name not in ("lenet5", "mlperf_tiny_ad")])
def test_so_is_every_other(name: str) -> None:
    assert pack(stored_profile(name)) == pack(ck.profile(*ck.zoo.build(name), name))


def test_the_catalogue_has_the_zoo_and_titles_for_all_of_it() -> None:
    assert set(stored_names()) == set(ck.zoo.names()) == set(catalogue.TITLES)
    assert next(iter(catalogue.networks("resnet18"))) == "resnet18"
    with pytest.raises(InvalidInputError, match="no network"):
        stored_profile("<img>")


@pytest.fixture
def scoped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process has the scope ``PROFILER``."""
    path = tmp_path / "trial.toml"
    path.write_text(PROFILER)
    monkeypatch.setenv(scopes.VARIABLE, str(path))
    scopes.current.cache_clear()
    yield
    scopes.current.cache_clear()


@pytest.mark.usefixtures("scoped")
def test_the_catalogue_keeps_to_the_scope() -> None:
    assert [*catalogue.networks("resnet18")] == ["lenet5"]
    assert catalogue.network("lenet5").name == stored_profile("lenet5").name
    with pytest.raises(ScopeError, match="vgg16"):
        catalogue.network("vgg16")
    assert catalogue.upload_bytes() == 4096
    with pytest.raises(ScopeError, match="upload_bytes"):
        catalogue.read_network("large.onnx", bytes(4097))
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("net/data.pkl", bytes(2 << 20))
    for content in (pickle.dumps([1.0]), bomb.getvalue(), b"", b"<html>"):
        with pytest.raises(InvalidInputError):
            catalogue.read_network("../../etc/net.onnx", content)


def test_designs_are_of_a_network_under_conditions() -> None:
    lenet = catalogue.network("lenet5").workload
    table = designs.Designs({"LeNet": lenet}, {"rows": (4, 8), "cols": (4, 8), "activation_kib": (4, 64)})
    with pytest.raises(InvalidInputError, match="ask for them first"):
        table.recommend({})
    frame = table.under({"network": "LeNet", "bandwidth_gb_s": 1.6})
    assert len(frame) == 8
    exact = ck.sweep(lenet, ck.DesignSpace(rows=(4, 8), cols=(4, 8), activation_kib=(4, 64), bandwidth_gb_s=1.6))
    np.testing.assert_allclose(frame["latency_ms"], exact["latency_ms"], rtol=2**-23)
    assert "To change next" in table.recommend({"area_mm2": (None, 1e9), "rows": (4, 8)})
    assert "the limits on rows out" in table.recommend({"rows": (4, 8)})
    with pytest.raises(InfeasibleDesignError):
        table.recommend({"latency_ms": (None, 0.0)})
    for wrong in ({"network": "<img>"}, {"network": ["LeNet"]}, {"nothing": 1.0}):
        with pytest.raises(InvalidInputError):
            table.under(wrong)
    with pytest.raises(InvalidInputError, match="at least one network"):
        designs.Designs({})


@pytest.mark.parametrize("dataflow", ["ws", "os", "is"])
@pytest.mark.parametrize("seed", [0, 7])
def test_answers_are_those_that_counting_gives(dataflow: str, seed: int) -> None:
    trace = ck.array_trace(A, B, dataflow, 3, 2)
    asked = {one.kind: one for one in questions(trace, seed)}
    busy = [int(trace.active[cycle].sum()) for cycle in range(trace.cycles)]
    first = asked["first"]
    assert first.pe is not None
    assert first.answer == next(c for c in range(trace.cycles) if trace.active[c][first.pe])
    assert asked["cycles"].answer == len(busy)
    assert asked["busy"].answer == busy[asked["busy"].cycle] > 0
    assert asked["utilization"].answer == pytest.approx(100 * A.shape[0] * A.shape[1] * B.shape[1] / (6 * len(busy)))
    row, col = (int(text) for text in asked["complete"].text.partition("c[")[2].partition("]")[0].split(", "))
    leaves = [c for c in range(trace.cycles) if ((trace.leaves_i[c] == row) & (trace.leaves_j[c] == col)).any()]
    assert asked["complete"].answer == leaves[-1]
    for one in asked.values():
        assert judged(one, one.answer)[0]
        for off, word in ((2.0, "less"), (-2.0, "more")):
            right, told = judged(one, one.answer + off)
            assert not right
            assert f"it is {word} than that" in told
            assert one.why not in told, "the reason would give the answer away"


class TestQuiz:
    @pytest.fixture
    def quiz(self) -> Any:
        animator = codesign_widgets.ArrayAnimator(ck.array_trace, m=4, k=3, n=2, rows=3, cols=2)
        made = codesign_widgets.ArrayQuiz(animator)
        yield made
        made.close()
        animator.close()

    def test_the_page_learns_no_answer_before_it_gave_one(self, quiz: Any) -> None:
        assert {name for row in quiz.answer["questions"] for name in row} == {"text", "unit", "right", "words"}
        right = quiz.questions[0].answer
        quiz.set_state({"query": {"seq": 1, "action": "check", "at": 0, "value": right + 1}})
        assert (quiz.answer["right"], quiz.answer["questions"][0]["right"]) == (0, False)
        quiz.set_state({"query": {"seq": 2, "action": "check", "at": 0, "value": right}})
        assert (quiz.answer["right"], quiz.answer["error"]) == (1, None)
        quiz.set_state({"query": {"seq": 3, "action": "show", "at": 2}})
        assert quiz.questions[2].why in quiz.answer["questions"][2]["words"]
        before = quiz.questions
        quiz.set_state({"query": {"seq": 4, "action": "other"}})
        assert quiz.questions != before
        assert quiz.answer["right"] == 0

    def test_hostile_questions_are_refused(self, quiz: Any) -> None:
        random.seed(0)
        for seq in range(400):
            query = {name: random.choice(HOSTILE) for name in ("at", "value", "action") if random.random() < 0.8}
            if random.random() < 0.5:
                query["action"] = random.choice(("check", "show"))
            quiz.set_state({"query": {"seq": seq, **query}, "answer": {"right": 5}, "setup": {}})
            assert quiz.answer["seq"] == seq
            assert "this failed" not in str(quiz.answer["error"]), (query, quiz.answer["error"])
        for query in HOSTILE:
            quiz.set_state({"query": query})
            assert "this failed" not in str(quiz.answer["error"]), (query, quiz.answer["error"])


class Shown:
    """A page that is given networks."""

    def __init__(self) -> None:
        self.given: list[tuple[str, Any]] = []

    def add(self, label: str, profile: Any) -> None:
        self.given.append((label, profile))


class TestSource:
    @pytest.fixture
    def source(self) -> Any:
        def read(name: str, content: bytes) -> Any:
            if content == b"bad":
                raise InvalidInputError("the file is bad")
            return catalogue.network("lenet5")

        networks = {name: catalogue.TITLES[name] for name in ("lenet5", "resnet18")}
        made = codesign_widgets.ModelSource(networks, catalogue.network, read, 64, catalogue.exported)
        yield made
        made.close()

    def upload(self, source: Any, content: bytes, name: Any = "a.onnx", size: Any = None) -> str:
        pieces = [content[at : at + 10] for at in range(0, len(content), 10)] or [b""]
        for at, piece in enumerate(pieces):
            source._received(source, {"kind": "piece", "first": at == 0}, [memoryview(piece)])
        source.set_state({"query": {"seq": 1, "upload": name, "size": len(content) if size is None else size}})
        return str((source.answer["error"] or {"text": ""})["text"])

    def test_what_is_chosen_goes_to_the_pages_and_can_be_saved(self, source: Any) -> None:
        page = source.showing(Shown())
        assert source.label == "LeNet-5"
        source.set_state({"query": {"seq": 1, "network": "resnet18"}})
        assert self.upload(source, b"x" * 64) == ""
        assert [label for label, _ in page.given] == ["ResNet-18", source.profile.name]
        sent: list[Any] = []
        source.send = lambda content, buffers=None: sent.append((content, buffers))
        for kind in ("csv", "json", "exe"):
            source._received(source, {"kind": "save", "format": kind}, [])
        assert [(content["name"], len(buffers)) for content, buffers in sent] == [("lenet5.csv", 1), ("lenet5.json", 1)]

    def test_what_is_asked_twice_is_shown_once(self, source: Any) -> None:
        """The second time would take back what was chosen, behind the first, to compare it with."""
        page = source.showing(Shown())
        for seq in (1, 2):
            source.set_state({"query": {"seq": seq, "network": "resnet18"}})
            assert (source.answer["seq"], source.answer["label"]) == (seq, "ResNet-18")
        assert self.upload(source, b"x" * 64) == ""
        source.set_state({"query": {"seq": 3, "network": "resnet18"}})
        assert [label for label, _ in page.given][::2] == ["ResNet-18", "ResNet-18"]
        assert len(page.given) == 3

    def test_what_cannot_be_is_refused_and_what_was_shown_stays(self, source: Any) -> None:
        assert "at most" in self.upload(source, bytes(65))
        assert not source._content, "what is too large is not held"
        assert self.upload(source, b"bad") == "The file is bad."
        assert "did not arrive whole" in self.upload(source, b"good", size=5)
        assert source.answer["error"]["control"] == "upload"
        assert source.label == "LeNet-5"

    def test_hostile_messages_are_refused(self, source: Any) -> None:
        for value in HOSTILE:
            for query in (value, {"network": value}, {"upload": value, "size": value}, {"upload": "a", "size": value}):
                source.set_state({"query": query, "answer": {}, "setup": {}})
                assert "this failed" not in str(source.answer["error"]), (query, source.answer["error"])
            for content in (
                value,
                {"kind": value},
                {"kind": "piece", "first": value},
                {"kind": "save", "format": value},
            ):
                source._received(source, content, [])
        assert source.setup["most"] == 64


def test_closing_them_leaves_nothing() -> None:
    def used() -> None:
        animator = codesign_widgets.ArrayAnimator(ck.array_trace, m=2, k=2, n=2, rows=2, cols=2)
        codesign_widgets.ArrayQuiz(animator).close()
        animator.close()
        codesign_widgets.ModelSource({"lenet5": catalogue.TITLES["lenet5"]}, catalogue.network).close()

    used()  # the first brings what all share
    gc.collect()
    before = len(ipywidgets.widgets.widget._instances)
    for _ in range(5):
        used()
    gc.collect()
    assert len(ipywidgets.widgets.widget._instances) == before


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="compares with what Linux says")
def test_the_reader_finds_what_it_has_mapped() -> None:
    """Without /proc, which a cell does not have; in a process of its own, as it moves a limit."""
    code = "import codesign_kernel.profiler.reader as r; print(r._mapped(), open('/proc/self/statm').read())"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert abs(int(told[0]) - int(told[1]) * resource.getpagesize()) < 2 << 20
