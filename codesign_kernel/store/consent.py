"""What people are asked, what they answered, and which text they had read when they did."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType

from sqlalchemy import select

from codesign_kernel.errors import ConsentError, InvalidInputError
from codesign_kernel.store.database import Database
from codesign_kernel.store.schema import ConsentRow


@dataclass(frozen=True)
class Purpose:
    """Something that is done only with consent: a title and the text that people agree to.

    Attributes:
        version: of the text; where it changes, what was agreed to before counts no more, and people are asked again.
    """

    title: str
    text: str

    @property
    def version(self) -> str:
        """Twelve digits of the text's digest."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:12]


#: {purpose: what people are asked}. The answer is no until they say yes.
PURPOSES: Mapping[str, Purpose] = MappingProxyType(
    {
        "storage": Purpose(
            "Keep my work",
            "May this server keep your uploads, results and studies after you sign out, so that you find them again? "
            "They are encrypted, nobody else sees them, and each is deleted at the end of its time as the privacy page "
            "says. You may take this back whenever you like: what was kept is then deleted within a day. Without it "
            "everything works, and your work is deleted within a day after it was made.",
        ),
    }
)

#: For the account page and the documentation.
NO_SALE = (
    "Personal data is not sold, not shared for advertising and not used for profiles, here or by anybody else: there "
    "is nothing to opt out of. The signal of Global Privacy Control (Sec-GPC) is noted and changes nothing, because "
    "nothing of the kind happens."
)


class Consent:
    """The answers of all people of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def given(self, subject: str, purpose: str) -> bool:
        """Whether ``subject`` agreed to ``purpose`` in its present text, and has not taken it back.

        Raises:
            InvalidInputError: there is no such purpose.
        """
        asked = _purpose(purpose)
        with self._database.read() as connection:
            found = connection.execute(
                select(ConsentRow.granted, ConsentRow.text_version).where(
                    ConsentRow.owner == subject, ConsentRow.purpose == purpose
                )
            ).one_or_none()
        return found is not None and found.granted and found.text_version == asked.version

    def asked(self, subject: str, purpose: str) -> bool:
        """Whether ``subject`` has answered to the present text at all; if not, ask.

        Raises:
            InvalidInputError: there is no such purpose.
        """
        version = _purpose(purpose).version
        with self._database.read() as connection:
            found = connection.execute(
                select(ConsentRow.text_version).where(ConsentRow.owner == subject, ConsentRow.purpose == purpose)
            ).scalar_one_or_none()
        return found == version

    def set(self, subject: str, purpose: str, granted: bool) -> None:
        """Write down the answer, in the place of an earlier one.

        Raises:
            InvalidInputError: there is no such purpose.
            StoreError: there is no such person.
        """
        row = {
            "owner": subject,
            "purpose": purpose,
            "granted": bool(granted),
            "text_version": _purpose(purpose).version,
            "at": datetime.now(UTC),
        }
        with self._database.write() as connection:
            self._database.replace(connection, ConsentRow, row)

    def require(self, subject: str, purpose: str) -> None:
        """Refuse what the person has not agreed to.

        Raises:
            ConsentError: no consent.
        """
        if not self.given(subject, purpose):
            raise ConsentError(
                f"this is kept only with your consent to {PURPOSES[purpose].title!r}, which you have not given; "
                "agree to it on your account page, then repeat"
            )


def _purpose(name: str) -> Purpose:
    if name not in PURPOSES:
        raise InvalidInputError(f"a purpose is one of {', '.join(PURPOSES)}, but got {name!r:.40}")
    return PURPOSES[name]
