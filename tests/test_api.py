"""The REST API over HTTP and ``ck.Client``: what is served, to whom, and what is refused in which words."""

from __future__ import annotations

import json
import socket
import threading
import time
from typing import Any
from urllib.parse import urlsplit

import pytest
from apicases import EVALUATION, PROFILE, Served, api, fresh, held
from test_upload_checks import model

from codesign_kernel.server.api import operations
from codesign_kernel.server.api.known import counted, networks

__all__ = ["api", "held"]  # fixtures


def begun(api: Served, job: str) -> None:
    """Comes back when the job runs."""
    end_s = time.monotonic() + 60
    while not any(job in batch for _, batch in api.runner.batches):
        assert time.monotonic() < end_s
        time.sleep(0.005)


# what there is --------------------------------------------------------------------------------------------------------
def test_index_and_lists(api: Served) -> None:
    with api.asker() as http:
        links = http.get(f"{api.url}/api/v1").raise_for_status().json()["links"]
        for path in links.values():
            if not path.endswith(
                ("uploads", "profiles", "evaluations", "explorations", "optimizations", "rtl", "cosimulations")
            ):
                assert http.get(f"{api.url}{path}").status_code == 200, path
        me = http.get("me").json()
        assert (me["name"], me["role"], me["scope"]["name"]) == ("ann", "user", "api_user")
        assert {one["name"] for one in http.get("models").json()["models"]} == set(networks())
        assert all(one["allowed"] for one in http.get("templates").json()["templates"])


def test_who_is_nobody_gets_nothing(api: Served) -> None:
    with api.asker("nobody") as http:
        for method, path in (("GET", "me"), ("POST", "profiles"), ("GET", "jobs"), ("DELETE", f"jobs/{'0' * 32}")):
            assert http.request(method, path).status_code == 401


def test_the_list_of_networks_is_what_the_library_has() -> None:
    """``python -m codesign_kernel.server.api.known`` writes it."""
    assert networks() == json.loads(json.dumps(counted()))


def test_etag_of_lists(api: Served) -> None:
    with api.asker() as http:
        tag = http.get("models").headers["ETag"]
        again = http.get("models", headers={"If-None-Match": f'"x", {tag}'})
        assert (again.status_code, again.content) == (304, b"")
        assert http.get("models", headers={"If-None-Match": '"x"'}).status_code == 200


# jobs -----------------------------------------------------------------------------------------------------------------
def test_a_job_from_its_request_to_its_end(api: Served) -> None:
    with api.asker() as http:
        answer = http.post("explorations", json=fresh())
        assert answer.status_code == 202
        where = answer.headers["Location"]
        assert where == answer.json()["href"]
        events = http.get(f"{api.url}{where}/events").text
        assert events.endswith("event: end\ndata: {}\n\n")
        job = http.get(f"{api.url}{where}")
        assert (job.json()["state"], job.json()["done"]) == ("done", 1.0)
        assert http.get(f"{api.url}{where}", headers={"If-None-Match": job.headers["ETag"]}).status_code == 304
        result = http.get(f"{api.url}{where}/result").json()
        assert result["result"]["asked"]["network"] == "cnn"
        assert http.delete(f"{api.url}{where}").status_code == 204
        assert http.get(f"{api.url}{where}").status_code == 404


def test_small_evaluations_are_answered_at_once(api: Served) -> None:
    with api.asker() as http:
        answer = http.post("evaluations", json=EVALUATION)
        assert answer.status_code == 200
        assert answer.json()["result"] == {"asked": EVALUATION}


def test_waiting_is_asked_for_and_has_an_end(held: Served) -> None:
    with held.asker() as http:
        answer = http.post("explorations", json=fresh(), headers={"Prefer": "wait=0"})
        assert answer.status_code == 202
        answer = http.post("explorations", json=fresh(), headers={"Prefer": "wait=1"})
        assert (answer.status_code, answer.json()["state"]) == (202, "queued")


def test_idempotency_over_http(held: Served) -> None:
    key = {"Idempotency-Key": "one"}
    with held.asker() as http, held.asker("bob") as other:
        request = fresh()
        first = http.post("explorations", json=request, headers=key)
        again = http.post("explorations", json=request, headers=key)
        assert (first.status_code, again.status_code) == (202, 200)
        assert first.json()["id"] == again.json()["id"]
        assert again.headers["Idempotent-Replayed"] == "true"
        reused = http.post("explorations", json=fresh(), headers=key)
        assert (reused.status_code, reused.json()["error"]["code"]) == (422, "key_reused")
        assert other.post("explorations", json=request, headers=key).json()["id"] != first.json()["id"]
        bad = http.post("explorations", json=request, headers={"Idempotency-Key": "x" * 201})
        assert bad.status_code == 400


def test_the_same_key_at_once_makes_one_job(held: Served) -> None:
    request, found = fresh(), []

    def ask() -> None:
        with held.asker() as http:
            found.append(http.post("explorations", json=request, headers={"Idempotency-Key": "race"}).json()["id"])

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_pages(held: Served) -> None:
    with held.asker("gil") as http:
        asked = [http.post("explorations", json=fresh()).json()["id"] for _ in range(5)]
        begun(held, asked[0])  # the others wait for it
        seen, path = [], "jobs?limit=2&state=queued"
        while True:
            page = http.get(path)
            seen += [job["id"] for job in page.json()["jobs"]]
            if page.json()["next"] is None:
                assert "Link" not in page.headers
                break
            assert page.headers["Link"] == f'<{page.json()["next"]}>; rel="next"'
            path = f"{held.url}{page.json()['next']}"
        assert seen == asked[:0:-1]
        assert len(http.get("jobs?limit=200&kind=profile").json()["jobs"]) == 0


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=201", "limit=x", "limit=1&limit=2", "after=%00", "kind=x", "state='--", "x=1",
              "after=eA", "limit=1e1", "limit=%EF%BC%91"],
)  # fmt: skip
def test_parameters_are_checked(api: Served, query: str) -> None:
    with api.asker() as http:
        answer = http.get(f"jobs?{query}")
        assert answer.status_code == 400
        assert answer.json()["error"]["message"]


def test_stopping(held: Served) -> None:
    with held.asker() as http:
        jobs = [http.post("explorations", json=fresh()).json()["href"] for _ in range(2)]
        for href in jobs:
            assert http.delete(f"{held.url}{href}").status_code in (200, 202)
        for href in jobs:
            http.get(f"{held.url}{href}/events")  # to its end
            assert http.get(f"{held.url}{href}").json()["state"] == "stopped"
            refused = http.get(f"{held.url}{href}/result")
            assert (refused.status_code, refused.json()["error"]["code"]) == (409, "stopped")


def test_events_go_on_where_they_were_cut_off(held: Served) -> None:
    with held.asker() as http:
        href = f"{held.url}{http.post('explorations', json=fresh()).json()['href']}"
        with http.stream("GET", f"{href}/events") as stream:
            first = next(line for line in stream.iter_lines() if line.startswith("id: "))
        assert first == "id: 1"
        held.runner.hold.set()
        rest = http.get(f"{href}/events", headers={"Last-Event-ID": "1"}).text
        assert [line for line in rest.splitlines() if line.startswith("id: ")] == ["id: 2", "id: 3", "id: 4"]
        assert "id: 1\n" not in rest
        assert http.get(f"{href}/events", headers={"Last-Event-ID": "-1"}).status_code == 400


def test_events_end_with_the_sign_in_that_asked_for_them(held: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    from codesign_kernel.server.api import serving

    async def gone(handler: Any) -> bool:
        return False

    with held.asker() as http:
        href = f"{held.url}{http.post('explorations', json=fresh()).json()['href']}"
        monkeypatch.setattr(serving, "BEAT_S", 0.0)
        monkeypatch.setattr(serving.ApiMixin, "still", gone)
        assert http.get(f"{href}/events").text == "", "the job has not ended, and the answer has"


def test_other_peoples_things_are_not_there(api: Served) -> None:
    with api.asker() as http, api.asker("bob") as other:
        href = f"{api.url}{http.post('explorations', json=fresh()).json()['href']}"
        http.get(f"{href}/events")
        file = http.post("uploads?name=a.onnx", content=model(), headers=BYTES).json()["href"]
        for path in (href, f"{href}/result", f"{href}/events", f"{api.url}{file}"):
            assert http.get(path).status_code == 200
            assert other.get(path).status_code == 404
        assert other.delete(href).status_code == other.delete(f"{api.url}{file}").status_code == 404
        assert other.post("profiles", json={"upload": file.rpartition("/")[2]}).status_code == 422
        assert href.rpartition("/")[2] not in other.get("jobs?limit=200").text
        assert http.delete(f"{api.url}{file}").status_code == 204


def test_without_the_owner_in_the_question_it_would_be_there(api: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guard is the owner in every question: with another one in it, somebody else's job is found."""
    with api.asker() as http, api.asker("bob") as other:
        href = f"{api.url}{http.post('explorations', json=fresh()).json()['href']}"
        get = api.jobs.table.get
        monkeypatch.setattr(api.jobs.table, "get", lambda owner, job: get(api.people["ann"].subject, job))
        assert other.get(href).status_code == 200


# what is refused ------------------------------------------------------------------------------------------------------
BYTES = {"Content-Type": "application/octet-stream"}


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ("{", 400, "the body is JSON"),
        ("", 400, "the body is JSON"),
        ('{"model": "cnn", "model": "cnn"}', 400, "each key once"),
        ('{"seed": NaN}', 400, "finite, but the body has NaN"),
        ('{"seed": Infinity}', 400, "finite"),
        ('{"seed": 1e999}', 400, "finite"),
        ('{"seed": ' + "9" * 5_000 + "}", 400, "at most 40 characters"),
        ("[" * 50 + "]" * 50, 400, "nested at most 12 deep"),
        ("[" * 200_000, 400, "nested"),
        ('{"model": "\\ud800"}', 400, "half of one"),
        ('{"model": "\\u0000"}', 400, "control character"),
        ("[]", 422, "the body: is of type object"),
        ("{}", 422, "needs model or upload"),
        ('{"model": "cnn", "x": 1}', 422, "got 'x'"),
        ('{"model": 7}', 422, "model: is of type string"),
        ('{"model": "cnn", "name": "<script>"}', 422, "name: matches"),
        ('{"model": "\' OR 1=1 --"}', 422, "model: is one of"),
        ('{"upload": "../../etc/passwd"}', 422, "upload: matches"),
    ],
)
def test_bodies_are_read_strictly(api: Served, body: str, status: int, words: str) -> None:
    with api.asker() as http:
        answer = http.post("profiles", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == status
        assert words in answer.json()["error"]["message"]


def test_a_whole_number_may_be_written_with_a_point(api: Served) -> None:
    """To JSON Schema 2.0 is an integer; to what runs the job it has to be one, too."""
    with api.asker() as http:
        body = b'{"network": "cnn", "designs": [{"rows": 8.0, "cols": 8, "weight_kib": 0.5}]}'
        asked = http.post("evaluations", content=body, headers=JSON).json()["result"]["asked"]
    assert repr(asked["designs"][0]) == "{'rows': 8, 'cols': 8, 'weight_kib': 0.5}"


def test_every_refused_method_is_told_which_there_are(api: Served) -> None:
    with api.asker() as http:
        for method in ("TRACE", "PATCH", "BREW"):
            answer = http.request(method, "jobs")
            assert (answer.status_code, answer.headers.get("Allow")) == (405, "GET"), method


def test_nobody_waits_for_a_job_that_was_stopped(held: Served) -> None:
    with held.asker() as http:
        where = http.post("explorations", json=fresh()).headers["Location"]
        http.delete(f"{held.url}{where}")
        http.get(f"{held.url}{where}/events")  # to its end
        refused = http.get(f"{held.url}{where}/result")
    assert refused.status_code == 409
    assert refused.json()["error"]["message"].endswith("this one is stopped; ask for it anew")


def test_fields_are_named(api: Served) -> None:
    with api.asker() as http:
        for design, words in (
            ({"rows": 8}, "designs.0: needs rows, cols or template"),
            ({"rows": 10**9, "cols": 8}, "designs.0.rows: is at most 4096"),
            ({"rows": 8, "cols": 8, "template": "tpu_v1"}, "designs.0"),
            ({"rows": True, "cols": 8}, "designs.0.rows: is of type integer"),
        ):
            answer = http.post("evaluations", json={"network": "cnn", "designs": [design]})
            assert answer.status_code == 422
            assert words in answer.json()["error"]["message"]


def test_forms_and_large_bodies_are_refused(api: Served) -> None:
    with api.asker() as http:
        assert http.post("profiles", data={"model": "cnn"}).status_code == 415
        assert http.post("profiles", content=b" " * (2 << 20), headers=JSON).status_code == 413
        sent = (b" " * 65536 for _ in range(32))  # chunked: it does not say its length
        assert http.post("profiles", content=sent, headers=JSON).status_code == 413
        answer = http.put("jobs")
        assert (answer.status_code, answer.headers["Allow"]) == (405, "GET")


JSON = {"Content-Type": "application/json"}


def test_limits_by_name_and_value(api: Served) -> None:
    with api.asker() as http, api.asker("gil") as guest:
        refused = http.post("profiles", json={"model": "llama_7b_prefill"})
        assert refused.status_code == 403
        assert "limits macs" in refused.json()["error"]["message"]
        assert "10,000,000,000,000 MAC" in refused.json()["error"]["message"]
        refused = http.post("explorations", json={"network": "cnn", "budget": 2_000_001})
        assert "limits designs" in refused.json()["error"]["message"]
        assert "2,000,000 designs" in refused.json()["error"]["message"]
        refused = guest.post("uploads", content=model(), headers=BYTES)
        assert refused.status_code == 403
        assert "capability 'upload'" in refused.json()["error"]["message"]


def test_a_token_has_its_capabilities_only(api: Served) -> None:
    with api.asker("cut") as http:
        assert http.get("me").json()["scope"]["capabilities"] == ["profile"]
        assert http.post("profiles", json=PROFILE).status_code == 202
        for path, request in (("explorations", fresh()), ("rtl", {"design": {"rows": 4, "cols": 4}})):
            refused = http.post(path, json=request)
            assert (refused.status_code, refused.json()["error"]["code"]) == (403, "scope")
        assert http.post("uploads", content=model(), headers=BYTES).status_code == 403


def test_without_the_scope_check_it_would_be_taken(api: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "check_scope", lambda *given: None)
    with api.asker("cut") as http:
        assert http.post("explorations", json=fresh()).status_code == 202


def test_sql_in_every_text_changes_nothing(api: Served) -> None:
    evil = "x'; DROP TABLE codesign_job; --"
    with api.asker() as http:
        before = len(http.get("jobs?limit=200").json()["jobs"])
        http.get("jobs", params={"after": evil, "kind": evil, "state": evil})
        http.get(f"jobs/{evil}")
        http.get("artefacts", params={"job": evil})
        http.post("uploads", params={"name": evil}, content=model(), headers=BYTES)
        http.post("profiles", json={"model": evil}, headers={"Idempotency-Key": evil.replace(" ", "")})
        http.post("profiles", json=PROFILE, headers={"Idempotency-Key": evil.replace(" ", "")})
        assert len(http.get("jobs?limit=200").json()["jobs"]) == before + 1


# files ----------------------------------------------------------------------------------------------------------------
def test_uploads_are_checked_kept_as_text_and_given_back_as_bytes(api: Served) -> None:
    name = '../../<img src=x onerror=alert(1)>"\r\n.onnx'
    with api.asker() as http:
        sent = http.post("uploads", params={"name": name.replace("\r\n", " ")}, content=model(), headers=BYTES)
        assert sent.status_code == 201
        told = sent.json()
        assert told["name"] == name.replace("\r\n", " ")  # text, as it was
        back = http.get(f"{api.url}{told['href']}")
        assert back.content == model()
        assert back.headers["Content-Type"] == "application/octet-stream"
        assert back.headers["X-Content-Type-Options"] == "nosniff"
        shown = back.headers["Content-Disposition"]
        assert shown.startswith('attachment; filename="img_src_x_onerror_alert_1_.onnx"; filename*=')
        assert not set("<>\r\n") & set(shown)
        assert http.get(f"{api.url}{told['href']}", headers={"If-None-Match": back.headers["ETag"]}).status_code == 304
        form = http.post("uploads", files={"file": ("../a\\b.onnx", model(), "text/html")})
        assert form.status_code == 201
        assert form.json()["media_type"] == "application/onnx"
        refused = http.post("uploads", content=model("/etc/passwd"), headers=BYTES)
        assert refused.status_code == 422
        assert "external data" in refused.json()["error"]["message"]
        assert http.post("uploads", content=model(), headers={"Content-Type": "text/plain"}).status_code == 415
        two = http.post("uploads", files=[("a", ("a", b"x")), ("b", ("b", b"y"))])
        assert two.status_code == 400


def test_an_upload_that_is_too_large_is_refused_before_it_comes(api: Served) -> None:
    place = urlsplit(api.url)
    with socket.create_connection((place.hostname, place.port)) as connection:
        head = "POST /api/v1/uploads HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ann\r\n"
        connection.sendall(f"{head}Content-Type: application/octet-stream\r\nContent-Length: 99999999\r\n\r\n".encode())
        connection.settimeout(60)
        assert b"413" in connection.recv(100)


def test_a_person_keeps_so_much(api: Served) -> None:
    with api.asker("bob") as http:
        api.jobs.belongings.keep(api.people["bob"].subject, "much", "application/onnx", b"x" * (1 << 20))
        refused = http.post("uploads", content=model(), headers=BYTES)
        assert refused.status_code == 413
        assert "belongings_bytes" in refused.json()["error"]["message"]
