"""What is kept: records, artefacts, studies with their evaluations, and results by what they were computed from."""

from codesign_kernel.store.breaker import Breaker
from codesign_kernel.store.cache import Cache
from codesign_kernel.store.digests import digest_of
from codesign_kernel.store.records import KINDS, Record
from codesign_kernel.store.store import Store
from codesign_kernel.store.study import Recorder, Study

__all__ = ["KINDS", "Breaker", "Cache", "Record", "Recorder", "Store", "Study", "digest_of"]
