"""Everything that is kept about people, in one table: what, where, why, how long, and how it goes.

Export, erasure, retention and the table of docs/privacy.md follow it; a test compares it with the schema, so that no
table of the database is forgotten.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from codesign_kernel.errors import InvalidInputError


@dataclass(frozen=True)
class Kind:
    """One kind of data.

    Attributes:
        what: in words.
        where: in words; for readers.
        purpose: what it is kept for.
        basis: the legal basis that suits (of the General Data Protection Regulation, article 6); the operator decides.
        days: it is kept for at most, unless the settings say otherwise; ``None``: until it is erased. 0: not at all
            beyond the process that holds it.
        runs: which moment the days are counted from, and what else ends it.
        exported: how it stands in an export; empty if it does not, and ``why_not`` says why.
        erased: how it goes when a person is erased.
        tables: of the database, that hold it.
        settable: whether ``retention_days`` may name it: the gateway's own job keeps to it.
        why_not: see ``exported``.
    """

    what: str
    where: str
    purpose: str
    basis: str
    days: float | None
    runs: str
    exported: str
    erased: str
    tables: tuple[str, ...] = ()
    settable: bool = True
    why_not: str = ""


_CONTRACT, _INTEREST, _CONSENT = "contract (1 b)", "legitimate interest (1 f)", "consent (1 a)"
_ROWS = "rows deleted"

#: {kind of data: what it is}.
DATA: Mapping[str, Kind] = MappingProxyType(
    {
        "people": Kind(
            "name, role, identity provider, Argon2 hash of the password, when made and last seen",
            "database",
            "to let people in and to find what is theirs",
            _CONTRACT,
            None,
            "until erased; disabled people stay disabled",
            "person.json, without the hash of the password",
            "row deleted: nothing leads from the subject to the name any more",
            ("codesign_person",),
        ),
        "guests": Kind(
            "what is kept of people, for guests: a made-up name",
            "database, as people",
            "to keep a visitor's things apart from others'",
            _INTEREST,
            1.0,
            "since last seen; erased with all that is theirs, as if they had asked",
            "as people",
            "as people",
        ),
        "sessions": Kind(
            "SHA-256 of the cookie's secret; when begun, last used, at an end",
            "database",
            "to stay signed in",
            _CONTRACT,
            1.0,
            "since it ended",
            "sessions.json, without the digest",
            _ROWS,
            ("codesign_login",),
        ),
        "tokens": Kind(
            "SHA-256 of an API token, its label and capabilities; when made, last used, at an end, revoked",
            "database",
            "to let programs in",
            _CONTRACT,
            90.0,
            "since it ended or was revoked",
            "tokens.json, without the digest",
            _ROWS,
            ("codesign_token",),
        ),
        "consents": Kind(
            "what a person agreed to or took back, when, and which text they had read",
            "database",
            "to prove consent, and to act on it",
            "legal obligation (1 c)",
            None,
            "until the person is erased",
            "consents.json",
            _ROWS,
            ("codesign_consent",),
        ),
        "jobs": Kind(
            "what somebody asked for and what came of it (both sealed), state, progress",
            "database",
            "to do the work, and to give its result",
            _CONTRACT,
            30.0,
            "since it was made; without consent to keep it, a day",
            "jobs.json and jobs/ID/, unsealed, with the events",
            "stopped first; rows deleted",
            ("codesign_job", "codesign_job_event"),
        ),
        "belongings": Kind(
            "uploads, results and bundles: files, sealed",
            "database",
            "to have them at hand again",
            _CONSENT,
            90.0,
            "since it was made; without consent to keep it, a day",
            "belongings.json and belongings/, unsealed",
            _ROWS,
            ("codesign_belonging",),
        ),
        "studies": Kind(
            "explorations with an owner: name, evaluations, states of samplers, provenance",
            "database",
            "to go on with them, and to compare",
            _CONSENT,
            365.0,
            "since it was made; without consent to keep it, a day",
            "studies.json and studies/",
            "rows deleted, with the records that no other study is about, their artefacts and files",
            (
                "codesign_study",
                "codesign_study_record",
                "codesign_batch",
                "codesign_evaluation",
                "codesign_state",
                "codesign_provenance",
            ),
        ),
        "cache": Kind(
            "results by the digest of what they were computed from, with an owner",
            "memory of the gateway, Redis, database",
            "not to compute the same twice",
            _INTEREST,
            7.0,
            "since it was written (memory and Redis: at the latest)",
            "cache.json and cache/, from the database",
            "from every tier; Redis by the owner's keys",
            ("codesign_cache",),
        ),
        "shared records": Kind(
            "networks, profiles, designs, reports and artefacts that belong to nobody, by digest",
            "database, large artefacts in files beside SQLite's",
            "the operator's own collection; studies may be about them",
            "no personal data",
            None,
            "until the operator removes them",
            "studies/, those that a study of the person is about",
            "those that only studies of the person are about",
            ("codesign_record", "codesign_file", "codesign_link", "codesign_artefact"),
            settable=False,
        ),
        "audit trail": Kind(
            "who (subject: a random name) did what and when; chained",
            "files of the gateway",
            "to find misuse and faults, and to prove that the trail is whole",
            _INTEREST,
            365.0,
            "since the file was full; whole files, the oldest first",
            "audit.jsonl, the person's lines",
            "stays under the subject, which leads nowhere once the person's row is gone",
        ),
        "log": Kind(
            "requests and errors with the subject, without names, contents or secrets; addresses of the network",
            "what the gateway writes to its log; the operator keeps it",
            "to find faults and attacks",
            _INTEREST,
            30.0,
            "the operator's rotation (journald, logrotate), see docs/operate.md",
            "",
            "stays under the subject until it is rotated away",
            settable=False,
            why_not="it is the operator's, and holds nothing that the audit trail has not",
        ),
        "rate counts": Kind(
            "how often a subject or an address of the network asked; the address of a guest who waits or has a kernel",
            "memory of the gateway, or Redis",
            "to keep the service up",
            _INTEREST,
            1.0,
            "at most: minutes, by the limit's own time, or as long as the kernel runs",
            "",
            "the subject's keys in Redis; otherwise by themselves",
            settable=False,
            why_not="gone within that time",
        ),
        "private folders": Kind(
            "what a running kernel or job has written",
            "folders of the gateway, one a process, readable by nobody else",
            "the work while it runs",
            _CONTRACT,
            0.0,
            "removed when the process ends",
            "folders/, of processes that run",
            "process stopped, folder removed",
            settable=False,
        ),
        "metrics": Kind(
            "counts and times, nobody named",
            "memory of the gateway; where the operator's Prometheus keeps them",
            "to run the service",
            "no personal data",
            None,
            "as the operator's Prometheus keeps them",
            "",
            "nothing to erase",
            settable=False,
            why_not="nobody is in them",
        ),
        "erased people": Kind(
            "subjects of erased people, and when: no name",
            "a file beside the keys",
            "so that an old backup does not bring them back",
            "legal obligation (1 c)",
            None,
            "as long as backups",
            "",
            "it is what remains",
            settable=False,
            why_not="whoever can ask is not in it",
        ),
        "backups": Kind(
            "copies of all of the above but sessions, cache, log, counts and metrics",
            "where the operator puts them",
            "to come back after a loss",
            _INTEREST,
            35.0,
            "the operator's; longer than a month takes a reason",
            "",
            "the erased are erased again when a backup is restored; the file goes at the end of its time",
            settable=False,
            why_not="copies of what is exported",
        ),
    }
)

#: Days for which work is kept of people who have not agreed to more.
WITHOUT_CONSENT_DAYS = 1.0


def retention(days: Mapping[str, float] | None = None) -> dict[str, float | None]:
    """{kind: days that it is kept}: the defaults, and over them ``days``.

    Raises:
        InvalidInputError: a kind that there is not, or that is not the gateway's to keep; or no days.
    """
    known = {name: kind.days for name, kind in DATA.items() if kind.settable}
    for name, value in (days or {}).items():
        if name not in known:
            raise InvalidInputError(f"retention is set for {', '.join(known)}, but got {name!r:.40}")
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e5:
            raise InvalidInputError(
                f"{name} are kept for more than 0 days and less than 100,000, but got {value!r:.40}"
            )
        known[name] = float(value)
    return known


def days_text(days: float | None) -> str:
    """``days`` in words."""
    if days is None:
        return "no limit"
    return f"{days:g} day{'' if days == 1 else 's'}" if days else "none"


def table_text() -> str:
    """The table in Markdown, as it stands in docs/privacy.md."""
    header = ("data", "what", "where", "what for", "basis", "kept", "in an export", "when erased")
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    for name, kind in DATA.items():
        kept = f"{days_text(kind.days)}; {kind.runs}"
        exported = kind.exported or f"no: {kind.why_not}"
        cells = (name, kind.what, kind.where, kind.purpose, kind.basis, kept, exported, kind.erased)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
