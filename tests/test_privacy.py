"""What is kept about people: consent, owners, export, erasure and retention, on both databases and on Redis."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from people import Somebody, holding, put, redis_forget, redis_with, rows, tables_with, unzipped
from sqlalchemy import text

import codesign_kernel as ck
from codesign_kernel.errors import ConsentError, InvalidInputError, StoreError, StoreUnavailableError
from codesign_kernel.store import consent, digest_of, erasure
from codesign_kernel.store.crypto import Vault
from codesign_kernel.store.kept import retention
from codesign_kernel.store.privacy import DATA, NO_SALE, PURPOSES, Privacy, table_text
from codesign_kernel.store.schema import CacheRow, JobRow, LoginRow, PersonRow, StudyRow, Table, TokenRow
from codesign_kernel.store.tiers import MemoryTier
from codesign_kernel.telemetry.audit import Audit

if TYPE_CHECKING:
    from servers import Redis

ROOT = Path(__file__).parent.parent
QUESTION = digest_of("question")


@pytest.fixture
def store(store_url: str) -> ck.Store:
    with ck.Store(store_url) as opened:
        yield opened


@pytest.fixture
def here(tmp_path: Path) -> ck.Store:
    with ck.Store(tmp_path / "store.db") as opened:
        yield opened


@pytest.fixture
def privacy(store: ck.Store, tmp_path: Path) -> Privacy:
    return Privacy(store, Vault(tmp_path / "keys"), Audit(tmp_path / "audit.jsonl"), [tmp_path / "kernels"])


def somebody(privacy: Privacy, tag: str, **options: Any) -> Somebody:
    return Somebody(privacy._store, privacy._vault, tag, **options).arrive()


# the table


def test_every_table_of_the_schema_is_accounted_for() -> None:
    named = [table for kind in DATA.values() for table in kind.tables]
    assert sorted(named) == sorted(Table.metadata.tables), "each table once in DATA"


def test_what_belongs_to_somebody_is_exported_and_erased(tmp_path: Path) -> None:
    """A table with an owner, or below one that has, is of a kind that is in an export, and its rows go."""
    personal = {"codesign_person"}
    while True:
        below = {
            table.name
            for table in Table.metadata.tables.values()
            if "owner" in table.columns
            or any(key.column.table.name in personal and key.ondelete == "CASCADE" for key in table.foreign_keys)
        }
        if below <= personal:
            break
        personal |= below
    assert {"codesign_job_event", "codesign_evaluation", "codesign_state"} <= personal
    for kind in DATA.values():
        if personal & {*kind.tables}:
            assert kind.exported, kind
            assert "deleted" in kind.erased or "every tier" in kind.erased, kind


def test_the_table_in_the_docs_is_up_to_date() -> None:
    written = (ROOT / "docs" / "privacy.md").read_text(encoding="utf-8")
    assert table_text() in written, "replace it with what `codesign privacy table` prints"
    assert NO_SALE in " ".join(written.split())


def test_retention_is_set_for_what_there_is() -> None:
    assert retention({"jobs": 3})["jobs"] == 3.0
    assert retention()["people"] is None
    for days, told in (
        ({"jbos": 1}, "retention is set for"),
        ({"log": 1}, "but got 'log'"),
        ({"jobs": 0}, "more than 0"),
    ):
        with pytest.raises(InvalidInputError, match=told):
            retention(days)


# consent


def test_consent_is_no_until_it_is_yes(privacy: Privacy, monkeypatch: pytest.MonkeyPatch) -> None:
    ada = somebody(privacy, "ada").subject
    assert not privacy.consent(ada, "storage")
    assert not privacy.consents.asked(ada, "storage")
    with pytest.raises(ConsentError, match="Keep my work"):
        privacy.consents.require(ada, "storage")
    privacy.set_consent(ada, "storage", True)
    privacy.consents.require(ada, "storage")
    changed = {"storage": consent.Purpose("Keep my work", "something else")}
    with monkeypatch.context() as patched:
        patched.setattr(consent, "PURPOSES", changed)
        assert not privacy.consent(ada, "storage"), "nobody has agreed to this text"
        assert not privacy.consents.asked(ada, "storage")
    privacy.set_consent(ada, "storage", False)
    assert not privacy.consent(ada, "storage")
    assert privacy.consents.asked(ada, "storage"), "the answer was no"
    with pytest.raises(InvalidInputError, match="a purpose is one of storage"):
        privacy.consent(ada, "advertising")
    with pytest.raises(StoreError):
        privacy.set_consent("0" * 32, "storage", True)
    assert all(purpose.text.endswith(".") for purpose in PURPOSES.values())


# owners


def test_a_study_is_its_owners_alone(store: ck.Store) -> None:
    ada, ben = store.study("s", digest_of(1), ["a"], owner="ada"), store.study("s", digest_of(2), ["b"], owner="ben")
    assert (ada.name, ben.name) == ("s", "s")
    assert ada.number != ben.number
    assert store.open_study("s", owner="ben").space_digest == digest_of(2)
    assert store.studies(owner="ada")["name"].tolist() == ["s"]
    assert store.studies().empty
    store.study("s", digest_of(3), ["c"])
    assert store.studies()["space_digest"].tolist() == [digest_of(3)]
    for name, owner in (("s", "eve"), ("ada s", None), (f"{'ada'} s", None)):
        with pytest.raises(InvalidInputError, match="has no study"):
            store.open_study(name, owner=owner)
    with pytest.raises(InvalidInputError, match="choose another name"):
        store.study("ada s", digest_of(1), ["a"])
    with pytest.raises(InvalidInputError, match="1 to 32 letters and digits"):
        store.study("s", digest_of(1), ["a"], owner="a*")


def test_owned_studies_are_not_in_an_archive(here: ck.Store, tmp_path: Path) -> None:
    here.study("s", digest_of(1), ["a"], owner="ada")
    here.study("shared", digest_of(1), ["a"])
    here.export_file(tmp_path / "all.zip")
    with ck.Store(tmp_path / "other.db") as other:
        assert other.import_file(tmp_path / "all.zip")["studies"] == 1
        assert other.studies()["name"].tolist() == ["shared"]


@pytest.mark.redis
def test_a_cached_result_is_its_owners_alone(store_url: str, redis: Redis) -> None:
    with ck.Store(store_url, redis_url=redis.url) as store, ck.Store(store_url, redis_url=redis.url) as fresh:
        for owner in ("ada", "ben"):
            store.cache.of(owner).put(QUESTION, f"of {owner}".encode())
        for cache in (store.cache, fresh.cache):
            assert cache.of("ada").get(QUESTION) == b"of ada"
            assert cache.of("ben").get(QUESTION) == b"of ben"
            assert cache.get(QUESTION) is None
            assert cache.of("eve").get(QUESTION) is None
        assert store.cache.erase("ada") == {"memory": 1, "redis": 1, "database": 1}
        assert [row["owner"] for row in rows(store, CacheRow)] == ["ben"]
        assert store.cache.of("ada").get(QUESTION) is None
        assert store.cache.of("ben").get(QUESTION) == b"of ben"


def test_memory_forgets_whose_it_was() -> None:
    tier = MemoryTier(10)
    tier.put("a", b"12345678", "ada")
    tier.put("b", b"12345678", "ben")
    assert (tier.get("a"), tier.bytes) == (None, 8)
    assert tier.erase("ada") == 0
    tier.put("b", b"1", None)
    assert tier.erase("ben") == 0, "the value is nobody's now"
    assert tier.bytes == 1


# export


def test_an_export_is_complete(privacy: Privacy, tmp_path: Path) -> None:
    ada, ben = somebody(privacy, "ada").work(), somebody(privacy, "ben").work()
    privacy.set_consent(ada.subject, "storage", True)
    folder = tmp_path / "kernels" / f"{ada.subject}-1"
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text(ada.word("notes"))
    (folder / "link").symlink_to("/etc/passwd")
    files = unzipped(privacy.export(ada.subject))
    everything = b"\n".join(files.values())
    for of in ("name", "label", "model", "result", "message", "event", "key", "upload", "output", "study", "evaluation",
               "state", "network", "record", "artefact", "file", "cached", "notes"):  # fmt: skip
        assert ada.word(of).encode() in everything, of
    assert b"canary-ben" not in everything
    for guard in ("hash", digest_of(ada.word("cookie")), digest_of(ada.word("token"))):
        assert guard.encode() not in everything
    assert not any(name.startswith(("/", "..")) or "/../" in name or "<" in name for name in files)
    manifest = json.loads(files["manifest.json"])
    listed = {name: about["sha256"] for name, about in manifest["files"].items()}
    assert listed == {n: hashlib.sha256(c).hexdigest() for n, c in files.items() if n != "manifest.json"}
    assert set(manifest["rows"]) | set(manifest["not_in_here"]) | {"guests", "shared records"} == set(DATA)
    assert b"root:" not in everything, "the link was not followed"
    assert ben.subject.encode() not in everything
    assert b'"event":"consent_changed"' in files["audit.jsonl"]


def test_an_export_says_what_the_rows_say(privacy: Privacy) -> None:
    ada = somebody(privacy, "ada").work()
    files = unzipped(privacy.export(ada.subject))
    read = {name: json.loads(content) for name, content in files.items() if name.endswith("s.json")}
    (job,) = rows(privacy._store, JobRow)
    (told,) = read["jobs.json"]
    same = set(job) - {"request", "result", "created_at", "started_at", "finished_at"}
    assert {name: told[name] for name in same} == {name: job[name] for name in same}
    assert datetime.fromisoformat(told["created_at"]) == job["created_at"]
    assert files[told["request"]] == privacy._vault.open(job["request"])
    assert set(told) == {*job, "events"}
    assert [event["data"]["text"] for event in told["events"]] == [ada.word("event")]
    assert {entry["name"] for entry in read["belongings.json"]} == {
        f"../{ada.word(name)} <b>.onnx" for name in ("upload", "output")
    }
    for entry in read["belongings.json"]:
        assert len(files[entry["file"]]) == entry["size"]
    (study,) = read["studies.json"]
    assert (study["name"], study["data"], study["provenance"]["seed"]) == ("mine", {"note": ada.word("study")}, None)
    lines = [json.loads(line) for line in files[study["evaluations"]].splitlines()]
    assert [(line["design"], line["results"]["a"]) for line in lines] == [(0, 1), (1, 2)]
    assert {record["kind"] for record in study["records"]} == {"network", "report"}


def test_nobody_exports_a_stranger(privacy: Privacy) -> None:
    for subject, told in (("0" * 32, "there is no person"), ("%' OR 1=1", "1 to 32 letters")):
        with pytest.raises(InvalidInputError, match=told):
            privacy.export(subject)
        with pytest.raises(InvalidInputError, match=told):
            privacy.erase(subject)


# erasure


@pytest.mark.redis
def test_nothing_is_left_of_who_was_erased(store_url: str, redis: Redis, tmp_path: Path) -> None:
    with ck.Store(store_url, redis_url=redis.url) as store:
        audit, roots = Audit(tmp_path / "audit.jsonl"), [tmp_path / "kernels"]
        privacy = Privacy(store, Vault(tmp_path / "keys"), audit, roots)
        ada, ben = somebody(privacy, "ada").work(), somebody(privacy, "ben").work()
        folder = roots[0] / f"k-{ada.subject}"
        folder.mkdir(parents=True)
        (folder / "notes.txt").write_text(ada.word("notes"))
        stopped = []
        privacy.before_erase.append(stopped.append)
        export = unzipped(privacy.export(ada.subject))
        assert b"canary-ada" in b"".join(export.values())
        sqlite = store._database.path is not None
        assert not sqlite or holding(tmp_path, b"canary-ada"), "it was there to be found"
        counts = privacy.erase(ada.subject)
        expected = {"people": 1, "sessions": 1, "tokens": 1, "consents": 0, "jobs": 1, "events": 1, "belongings": 2,
                    "studies": 1, "evaluations": 2, "records": 2, "artefacts": 2, "cache": 3, "folders": 1,
                    "files": int(sqlite)}  # fmt: skip
        assert counts == expected
        assert stopped == [ada.subject]
        assert holding(tmp_path, b"canary-ada") == []
        assert tables_with(store, "canary-ada") == []
        assert tables_with(store, ada.subject) == []
        assert redis_with(redis, b"canary-ada", ada.subject.encode()) == []
        assert store.cache.of(ada.subject).get(QUESTION) is None
        told = {Path(name).name for name in holding(tmp_path, ada.subject.encode())}
        assert told == {"audit.jsonl", "erased.jsonl"}, "the pseudonym, and nowhere else"
        assert unzipped(privacy.export(ben.subject))["jobs.json"], "nobody else was touched"
        assert len(tables_with(store, "canary-ben")) > 5
        assert store.cache.of(ben.subject).get(QUESTION) == ben.word("cached").encode()
        assert privacy.erase(ada.subject) == dict.fromkeys(expected, 0), "to repeat it is harmless"
        redis_forget(redis)


def test_what_was_written_over_is_gone_too(here: ck.Store, tmp_path: Path) -> None:
    """Deleted and changed rows leave nothing behind in SQLite's file, although none of it is in a table any more."""
    privacy = Privacy(here, Vault(tmp_path / "keys"))
    ada = somebody(privacy, "ada")
    for number in range(40):
        here.study(f"s{number}", digest_of(1), ["a"], data=[ada.word("old")] * 50, owner=ada.subject)
    with here._database.write() as connection:
        connection.execute(text("UPDATE codesign_study SET data = '[]'"))
    privacy.erase(ada.subject)
    assert holding(tmp_path, b"canary-ada") == []


def test_an_erasure_that_was_cut_off_is_finished(privacy: Privacy, monkeypatch: pytest.MonkeyPatch) -> None:
    ada = somebody(privacy, "ada").work()

    def killed(*_: object, **__: object) -> dict[str, int]:
        raise KeyboardInterrupt

    for name in ("lock_out", "delete_person", "sweep_files", "scrub"):
        with monkeypatch.context() as patched:
            patched.setattr(erasure, name, killed)
            with pytest.raises(KeyboardInterrupt):
                privacy.erase(ada.subject)
        assert privacy.tombstones.all() == {ada.subject: False}
    counts = privacy.retain()
    assert counts["erasures"] == 1
    assert privacy.tombstones.all() == {ada.subject: True}
    assert tables_with(privacy._store, "canary-ada") == []
    assert privacy.retain()["erasures"] == 0


def test_who_is_being_erased_cannot_come_in(privacy: Privacy) -> None:
    """While what runs is stopped, no session and no token is good any more."""
    ada, seen = somebody(privacy, "ada").work(), []

    def stop(subject: str) -> None:
        (person,) = rows(privacy._store, PersonRow)
        seen.append((subject, person["disabled"], rows(privacy._store, LoginRow), rows(privacy._store, TokenRow)))
        assert rows(privacy._store, JobRow), "its rows are there for whoever stops it"

    privacy.before_erase.append(stop)
    privacy.erase(ada.subject)
    assert seen == [(ada.subject, True, [], [])]


@pytest.mark.redis
def test_a_cache_that_cannot_be_reached_is_said(here: ck.Store, tmp_path: Path) -> None:
    with ck.Store(tmp_path / "other.db", redis_url=f"unix://{tmp_path}/no.sock") as store:
        privacy = Privacy(store, Vault(tmp_path / "keys"))
        ada = somebody(privacy, "ada").work()
        with pytest.raises(StoreUnavailableError, match="redis cannot be reached"):
            privacy.erase(ada.subject)
        assert privacy.tombstones.all() == {ada.subject: False}


def test_records_of_others_stay(privacy: Privacy) -> None:
    ada, store = somebody(privacy, "ada").work(), privacy._store
    report = store.records("report")["digest"].iloc[0]
    store.study("other", digest_of(0), ["a"], owner="0" * 32).attach("report", report)
    assert privacy.erase(ada.subject)["records"] == 0
    assert store.record("report", report).links, "and what it was made from"
    assert len(store.get(store.record("report", report).files["large"])) > 1 << 20


# retention


def test_what_is_over_goes(privacy: Privacy) -> None:
    now, store = datetime.now(UTC), privacy._store
    old = now - timedelta(days=3)
    keeper, leaver = somebody(privacy, "keeper", at=old).work(), somebody(privacy, "leaver", at=old).work()
    guest = somebody(privacy, "guest", at=old, provider="guest").work()
    privacy.set_consent(keeper.subject, "storage", True)
    with store._database.write() as connection:  # a study and a cached result are of the moment in which they are made
        for table, column in (("provenance", "created_at"), ("cache", "written_at")):
            connection.execute(text(f"UPDATE codesign_{table} SET {column} = :old"), {"old": old})
    put(store, CacheRow, key=digest_of(9), size=1, content=b"x", written_at=now, owner="f" * 32)
    counts = privacy.retain(now)
    assert (counts["guests"], counts["jobs"], counts["belongings"], counts["studies"]) == (1, 1, 2, 1)
    assert counts["sessions"] == 2, "they ended a day ago"
    assert counts["cache"] == 1, "of nobody who is here"
    assert {row["owner"] for row in rows(store, JobRow)} == {keeper.subject}
    assert {row["owner"] for row in rows(store, StudyRow)} == {keeper.subject}
    assert {row["subject"] for row in rows(store, PersonRow)} == {keeper.subject, leaver.subject}
    assert tables_with(store, "canary-guest") == []
    assert guest.subject not in privacy.tombstones.all()
    later = privacy.retain(now + timedelta(days=91))
    assert (later["jobs"], later["belongings"], later["cache"], later["tokens"]) == (1, 2, 2, 2)
    assert later["studies"] == 0, "those are kept for a year"
    privacy.days["studies"] = 30.0
    assert privacy.retain(now + timedelta(days=91))["studies"] == 1


def test_a_name_is_put_right(privacy: Privacy) -> None:
    ada, ben = somebody(privacy, "ada"), somebody(privacy, "ben")
    privacy.rename(ada.subject, "Ada")
    privacy.rename(ada.subject, "Ada")
    assert privacy.subject_of("Ada") == ada.subject
    for name, told in ((ben.word("name"), "already"), ("", "1 to 200"), ("a\0", "control")):
        with pytest.raises(InvalidInputError, match=told):
            privacy.rename(ada.subject, name)


def test_what_waits_or_runs_stays(privacy: Privacy) -> None:
    ada = somebody(privacy, "ada", at=datetime.now(UTC) - timedelta(days=400)).work()
    with privacy._store._database.write() as connection:
        connection.execute(text("UPDATE codesign_job SET state = 'running'"))
    privacy.retain()
    assert [row["owner"] for row in rows(privacy._store, JobRow)] == [ada.subject]
