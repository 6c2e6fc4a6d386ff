"""Studies by name: made once, found again, and never taken for another of the same name."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.store.database import Database
from codesign_kernel.store.digests import checked_name, plain_text
from codesign_kernel.store.provenance import Provenance, insert_provenance
from codesign_kernel.store.schema import StudyRow
from codesign_kernel.store.study import Study


def insert_study(
    database: Database,
    connection: Connection,
    name: str,
    space_digest: str,
    objectives: Any,
    data: object,
    provenance: Provenance,
) -> None:
    """Make the study, within a transaction, unless it is there.

    Raises:
        InvalidInputError: it is there, and of another space or of other objectives; or what is given is not plain data.
    """
    checked_name(name, "a study's name")
    plain_text([objectives, data])
    wanted = select(StudyRow.space_digest, StudyRow.objectives).where(StudyRow.name == name)
    found = connection.execute(wanted).one_or_none()
    if found is None:
        number, _ = insert_provenance(database, connection, provenance)
        row = {
            "name": name,
            "space_digest": space_digest,
            "objectives": objectives,
            "data": data,
            "provenance_id": number,
        }
        database.insert_new(connection, StudyRow, [row])
        found = connection.execute(wanted).one()  # of another process, if that came first
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


def study_named(database: Database, connection: Connection, name: str) -> Study:
    """The study of that name.

    Raises:
        InvalidInputError: there is none.
    """
    found = connection.execute(select(StudyRow.__table__).where(StudyRow.name == name)).one_or_none()
    if found is None:
        raise InvalidInputError(f"the store {database.place} has no study {name!r:.60}; make it with Store.study")
    return Study(found.name, found.space_digest, found.objectives, found.data, found.id, database)
