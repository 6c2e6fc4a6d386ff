"""Studies by name: made once, found again, and never taken for another of the same name."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.store.database import Database
from codesign_kernel.store.digests import checked_name, checked_owner, plain_text
from codesign_kernel.store.provenance import Provenance, insert_provenance
from codesign_kernel.store.schema import StudyRow
from codesign_kernel.store.study import Study


def row_name(name: str, owner: str | None) -> str:
    """The name in the table, where names are unique: with an owner it is bound to them, so that two people may use one.

    Raises:
        InvalidInputError: it is no name, or too long.
    """
    checked_name(name, "a study's name")
    return name if owner is None else checked_name(f"{checked_owner(owner)} {name}", "a study's name with its owner's")


def insert_study(
    database: Database,
    connection: Connection,
    name: str,
    space_digest: str,
    objectives: Any,
    data: object,
    provenance: Provenance,
    owner: str | None = None,
) -> None:
    """Make the study, within a transaction, unless it is there.

    Raises:
        InvalidInputError: it is there, and of another space, of other objectives or of another owner; or what is given
            is not plain data.
    """
    filed_under = row_name(name, owner)
    plain_text([objectives, data])
    wanted = select(StudyRow.space_digest, StudyRow.objectives, StudyRow.owner).where(StudyRow.name == filed_under)
    found = connection.execute(wanted).one_or_none()
    if found is None:
        number, _ = insert_provenance(database, connection, provenance)
        row = {
            "name": filed_under,
            "space_digest": space_digest,
            "objectives": objectives,
            "data": data,
            "provenance_id": number,
            "owner": owner,
        }
        database.insert_new(connection, StudyRow, [row])
        found = connection.execute(wanted).one()  # of another process, if that came first
    if found.owner != owner:  # a shared one whose name looks like an owned one's
        raise InvalidInputError(f"the name {name!r:.60} of a study is taken; choose another name")
    if found.space_digest != space_digest:
        raise InvalidInputError(
            f"the design numbers of a study count one space, but {name!r} is of space {found.space_digest[:12]}..., "
            f"not of {space_digest[:12]}...; choose another name"
        )
    if plain_text(found.objectives) != plain_text(objectives):
        raise InvalidInputError(
            f"a study has the objectives that it began with, but {name!r} has {found.objectives!r:.100}, not "
            f"{objectives!r:.100}; choose another name"
        )


def study_named(database: Database, connection: Connection, name: str, owner: str | None = None) -> Study:
    """The study of that name and owner.

    Raises:
        InvalidInputError: there is none.
    """
    wanted = select(StudyRow.__table__).where(StudyRow.name == row_name(name, owner))
    found = connection.execute(wanted).one_or_none()
    if found is None or found.owner != owner:
        raise InvalidInputError(f"the store {database.place} has no study {name!r:.60}; make it with Store.study")
    return Study(name, found.space_digest, found.objectives, found.data, found.id, database)
