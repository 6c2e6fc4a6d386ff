"""Design, DesignSpace and SpatialSpace: one point, and all points, of what can be chosen."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from codesign_kernel.accelerator.spatial import DATAFLOWS, LIMITS, SPATIAL_FIELDS, SWITCHES, SpatialArray, spatial_only
from codesign_kernel.accelerator.types import DATAFLOWS as TEMPLATE_DATAFLOWS
from codesign_kernel.accelerator.types import FIELDS, WHOLE, Accelerator
from codesign_kernel.display import Shown
from codesign_kernel.errors import InvalidInputError


@dataclass(frozen=True)
class Design(Shown):
    """An accelerator as a point of a search; ``digest`` names the machine."""

    accelerator: Accelerator | SpatialArray

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Design:
        """The design of a row of a sweep: the fields of :class:`Accelerator` among ``parameters``; or those of
        :class:`SpatialArray`, if there are some that only it has."""
        if spatial_only(parameters):
            return cls(SpatialArray(**{n: _plain(n, parameters[n]) for n in SPATIAL_FIELDS if n in parameters}))
        missing = [name for name in ("rows", "cols") if name not in parameters]
        if missing:
            raise InvalidInputError(f"a design has rows and cols, but {' and '.join(missing)} is missing")
        fields: dict[str, Any] = {
            name: parameters[name]
            if name == "dataflow"
            else _whole(parameters[name])
            if name in WHOLE
            else float(parameters[name])
            for name in FIELDS
            if name in parameters
        }
        return cls(Accelerator(**fields))

    @property
    def digest(self) -> str:
        """sha256 of the accelerator."""
        return self.accelerator.digest

    def __str__(self) -> str:
        return str(self.accelerator)


def _whole(value: Any) -> Any:
    """A count as Python's integer; what is none stays, and is refused with its value."""
    return int(value) if isinstance(value, int | float | np.number) and float(value).is_integer() else value


def _plain(name: str, value: Any) -> Any:
    """A field of :class:`SpatialArray` as Python's own type; what breaks its law stays, and is refused there."""
    if name == "dataflow":
        coded = isinstance(value, int | np.integer) and 0 <= value < len(DATAFLOWS)
        return DATAFLOWS[int(value)] if coded else value
    return _whole(value) if name in LIMITS or name in SWITCHES else float(value)


class DesignSpace(Shown):
    """The product of choices for the fields of :class:`Accelerator`.

    Design ``i`` takes its choices as digits of ``i``, the last parameter changing fastest. A field that is not given
    has the default of :meth:`Accelerator.systolic`. Combinations that break a law of the template are members; a sweep
    marks them as infeasible and says so.
    """

    #: The fields that can be chosen, those that count things, those that are texts, and what each text may be.
    fields: ClassVar[tuple[str, ...]] = FIELDS
    whole: ClassVar[frozenset[str]] = frozenset(WHOLE)
    texts: ClassVar[dict[str, tuple[str, ...]]] = {"dataflow": TEMPLATE_DATAFLOWS}

    def __init__(self, **choices: Any) -> None:
        """``choices``: a number, or several, for each field; for ``dataflow`` a text, or several.

        Raises:
            InvalidInputError: a name is no field, or a list of choices is empty, not numeric (or not whole, where
                things are counted; or no such text), or names a value twice.
        """
        unknown = sorted(set(choices) - set(self.fields))
        if unknown:
            raise InvalidInputError(f"a design space has the parameters {', '.join(self.fields)}, but got {unknown}")
        if "rows" not in choices or "cols" not in choices:
            raise InvalidInputError("a design space has choices for rows and for cols; give both")
        self.choices: dict[str, tuple[Any, ...]] = {}
        for name, values in choices.items():
            several = tuple(values) if isinstance(values, Sequence | np.ndarray | range) else (values,)
            if name in self.texts:
                several = (values,) if isinstance(values, str) else several
                legal = self.texts[name]
                lawful, kind = all(v in legal for v in several), f"of {', '.join(map(repr, legal))}"
            else:
                lawful, kind = self._numeric(name, several), "whole numbers" if name in self.whole else "finite numbers"
            if not several or not lawful or len(set(several)) != len(several):
                raise InvalidInputError(f"{name} has one or more different {kind} to choose from, but got {values!r}")
            self.choices[name] = tuple(v.item() if isinstance(v, np.generic) else v for v in several)

    def _numeric(self, name: str, several: tuple[Any, ...]) -> bool:
        switch = name in SWITCHES
        return all(
            isinstance(v, int | float | np.number)
            and (switch or not isinstance(v, bool))
            and math.isfinite(v)
            and (name not in self.whole or v == int(v))
            for v in several
        )

    @classmethod
    def default(cls) -> DesignSpace:
        """The space of the demo: 241,920 small accelerators beside one 16-bit LPDDR channel, at 28 nm."""
        return cls(
            rows=(2, 4, 8, 16, 32, 64),
            cols=(2, 4, 8, 16, 32, 64),
            activation_kib=(1, 2, 4, 8, 16, 32, 64, 128),
            weight_kib=(2, 4, 8, 16, 32, 64, 128, 256, 512, 1024),
            accumulator_kib=(0.5, 1, 2, 4, 8, 16, 32),
            bandwidth_gb_s=(0.8, 1.6, 3.2, 6.4),
            frequency_mhz=(100, 200, 400),
            instruction_kib=4,
        )

    @classmethod
    def large(cls) -> DesignSpace:
        """For networks of megabytes, such as ResNet-18: 100,800 larger accelerators, at 28 nm."""
        return cls(
            rows=(8, 16, 32, 64, 128),
            cols=(8, 16, 32, 64, 128),
            activation_kib=(64, 128, 256, 512, 1024, 2048),
            weight_kib=(128, 256, 512, 1024, 2048, 4096, 8192),
            accumulator_kib=(8, 16, 32, 64, 128, 256),
            bandwidth_gb_s=(3.2, 6.4, 12.8, 25.6),
            frequency_mhz=(200, 400),
            instruction_kib=(32, 512),
        )

    @classmethod
    def suited_to(cls, workload: Any) -> DesignSpace:
        """:meth:`default` for a network of at most a million weights, else :meth:`large`.

        Args:
            workload: a Workload, or anything with one in ``.workload``.
        """
        weights = sum(layer.weights for layer in getattr(workload, "workload", workload).layers)
        return cls.default() if weights <= 1_000_000 else cls.large()

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names, in order."""
        return tuple(self.choices)

    @property
    def size(self) -> int:
        """Number of designs."""
        return math.prod(len(values) for values in self.choices.values())

    def __len__(self) -> int:
        return self.size

    def columns(self, indices: Any = None) -> dict[str, np.ndarray[Any, Any]]:
        """Parameters of the designs ``indices`` (all without), one array a parameter.

        Raises:
            InvalidInputError: an index lies outside of the space.
        """
        index = np.arange(self.size) if indices is None else np.asarray(indices, dtype=np.int64)
        if index.size and (index.min() < 0 or index.max() >= self.size):
            raise InvalidInputError(
                f"designs are numbered 0 to {self.size - 1}, but got {index.min()} to {index.max()}"
            )
        columns = {}
        for name, values in reversed(self.choices.items()):
            index, digit = np.divmod(index, len(values))
            columns[name] = np.array(values)[digit]
        return dict(reversed(columns.items()))

    def design(self, index: int) -> Design:
        """Design number ``index``.

        Raises:
            InvalidInputError: the index lies outside of the space, or the combination breaks a law of the template.
        """
        return Design.of({name: values[0].item() for name, values in self.columns([index]).items()})

    def __iter__(self) -> Iterator[dict[str, float]]:
        for values in itertools.product(*self.choices.values()):
            yield dict(zip(self.choices, values, strict=True))

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.size:,} designs: "
            + ", ".join(f"{n} x{len(v)}" for n, v in self.choices.items())
            + ")"
        )


class SpatialSpace(DesignSpace):
    """The product of choices for the fields of :class:`SpatialArray`; one that is not given has its default there.

    Like :class:`DesignSpace` otherwise. Machines that differ only in their buffers share their mappings.
    """

    fields: ClassVar[tuple[str, ...]] = SPATIAL_FIELDS
    whole: ClassVar[frozenset[str]] = frozenset({*LIMITS, *SWITCHES})
    texts: ClassVar[dict[str, tuple[str, ...]]] = {"dataflow": DATAFLOWS}

    def __init__(self, **choices: Any) -> None:
        """``choices``: a value, or several, for each field; see :class:`DesignSpace` for the errors."""
        # a field that no other machine has stands in every row, so that Design.of knows what the row is
        super().__init__(**{"vector_lanes": SpatialArray.vector_lanes, **choices})

    @classmethod
    def default(cls) -> SpatialSpace:
        """1,036,800 machines from 8 x 8 to 64 x 64, all three dataflows, with separate buffers, at 28 nm."""
        return cls(
            dataflow=DATAFLOWS,
            rows=(8, 16, 32, 64),
            cols=(8, 16, 32, 64),
            bandwidth_gb_s=(3.2, 6.4, 12.8, 25.6, 51.2),
            vector_lanes=(16, 32, 64),
            input_kib=(8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384),
            weight_kib=(4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192),
            output_kib=(2, 4, 8, 16, 32, 64, 128, 256, 512, 1024),
        )

    @classmethod
    def suited_to(cls, workload: Any) -> SpatialSpace:
        """:meth:`default`, whatever the network."""
        return cls.default()

    def design(self, index: int) -> Design:
        """Design number ``index``.

        Raises:
            InvalidInputError: the index lies outside of the space, or the combination breaks a law of SpatialArray.
        """
        row = {name: values[0].item() for name, values in self.columns([index]).items()}
        return Design(SpatialArray(**{name: _plain(name, value) for name, value in row.items()}))
