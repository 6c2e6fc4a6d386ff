"""What a step is handed and what it gives; both know the store only as a place for records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from codesign_kernel.session.workflow import kept
from codesign_kernel.session.workflow.settings import Workflow
from codesign_kernel.store import Record, Store

if TYPE_CHECKING:
    from codesign_kernel.design import Design
    from codesign_kernel.optimize import Dataset, IntegerNetwork
    from codesign_kernel.rtl import RtlBundle
    from codesign_kernel.workload import Workload

Progress = Callable[[int, int, str], None]


def load_task(trained: tuple[str, str], progress: Progress | None) -> Dataset:
    """The data of (task, network)."""
    from codesign_kernel.optimize import load_digits, load_keywords
    from codesign_kernel.optimize.networks import NETWORKS

    task, network = trained
    if task == "keywords":
        return load_keywords(progress=progress)
    return load_digits(NETWORKS[network].shape[1])


@dataclass(frozen=True)
class Product:
    """What a step made.

    Attributes:
        kind: of the store's records.
        data: plain; ``told`` in it is for people.
        files: bytes by name.
        evaluated: designs (or networks) that were evaluated for it now.
    """

    kind: str
    data: dict[str, Any]
    files: Mapping[str, bytes] = field(default_factory=dict)
    evaluated: int = 0


@dataclass(frozen=True)
class Kept:
    """The records that steps have made, read where they are asked for."""

    store: Store
    records: Mapping[str, Record]

    def file(self, step: str, name: str) -> bytes:
        """A file of a step's product."""
        return self.store.get(self.records[step].files[name])

    @cached_property
    def network(self) -> IntegerNetwork:
        """Of ``optimise``, or of the pair that was chosen."""
        step = "optimise" if "optimise" in self.records else "choose"
        return kept.network_of(self.file(step, "network.npz"))

    @cached_property
    def workload(self) -> Workload:
        """Of the quantised network where there is one, else of the profile."""
        if "optimise" in self.records:
            return self.network.workload
        return kept.profile_of(self.file("profile", "profile.json")).workload

    @cached_property
    def design(self) -> Design:
        """Of ``choose``."""
        return kept.design_of(self.records["choose"].data)

    @cached_property
    def bundle(self) -> RtlBundle:
        """Of ``generate``."""
        record = self.records["generate"]
        return kept.bundle_of(record.data, {name: self.file("generate", name).decode() for name in record.files})


@dataclass(frozen=True)
class Job(Kept):
    """What a step is handed.

    Attributes:
        records: of the steps that it needs.
        workflow, settings: the whole, and its own part.
        name: under which a study of it is found: the same for the same work.
        progress: called as ``progress(done, total, message)``.
        executor: for evaluations; None here.
    """

    workflow: Workflow
    settings: Mapping[str, Any]
    name: str
    progress: Progress
    executor: Any = None

    @cached_property
    def trained(self) -> Any:
        """The torch model of ``train``."""
        from codesign_kernel.optimize.networks import NETWORKS
        from codesign_kernel.optimize.weights import load_weights

        weights = kept.arrays_of(self.file("train", "weights.npz"))
        return load_weights(NETWORKS[self.records["train"].data["network"]].model(), weights)

    @cached_property
    def dataset(self) -> Dataset:
        """The data of the task."""
        assert self.workflow.trained is not None
        return load_task(self.workflow.trained, self.progress)
