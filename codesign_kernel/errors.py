"""What can go wrong, one class per kind of mistake. Every message states the law, the value and the remedy."""


class CodesignError(Exception):
    """Base of every error that this library raises on purpose; the command line prints it as one line."""


class InvalidInputError(CodesignError, ValueError):
    """An argument breaks a law: wrong shape, wrong range, unknown name."""


class UnsupportedLayerError(CodesignError):
    """A network holds a layer that the accelerator's datapath cannot run; the message names the layer."""


class InfeasibleDesignError(CodesignError):
    """A workload cannot be mapped onto a design: which buffer is too small, and by how much."""


class CapacityError(CodesignError):
    """A program does not fit a memory or an instruction field of the accelerator it is lowered to."""


class ConversionError(CodesignError):
    """MyHDL could not turn the accelerator into Verilog or VHDL."""


class SimulatorError(CodesignError):
    """A simulator is missing, failed to build, or died; the message says what to install or where the log is."""


class StoppedError(CodesignError):
    """Work was stopped because somebody asked for it; nothing of it is left behind."""


class SynthesisError(CodesignError):
    """yosys is missing or failed; the message says what to install or what it complained of."""


class ClusterError(CodesignError):
    """A cluster cannot be started, reached or relied on; the message says which, and what to do."""


class OutputError(CodesignError, OSError):
    """A result cannot be written where it was asked for."""


class StoreError(CodesignError):
    """The store's database refused, or is damaged, or is none."""


class StoreUnavailableError(StoreError):
    """The store's database cannot be reached, or another process holds it; what was to be written was not."""


class StoreFullError(StoreError, OSError):
    """The disk of the store is full; what was to be written was not, and what was there is untouched."""


class SchemaError(StoreError):
    """The store was written by a newer release."""


class ArchiveError(CodesignError, ValueError):
    """A file to import is not an export of a store, or was changed since."""


class EvaluationError(CodesignError):
    """An evaluator gave what is no result: NaN for a design that it calls feasible, or a column that does not fit."""


class MissingPackageError(CodesignError, ImportError):
    """What was asked for needs a package of an extra that is not installed; the message says which."""


class SpeechError(CodesignError):
    """The speech synthesiser failed, or has no such voice; the message says which."""


class ScopeError(CodesignError, PermissionError):
    """The scope that this work runs in forbids it, or ends before it: the message names the limit and the value."""


class ScopeFileError(CodesignError, ValueError):
    """A scope file is no scope: an unknown capability, limit or key, or a value out of its range."""


class SandboxError(CodesignError):
    """This machine cannot enforce what a scope asks for; the message says what is missing and how to go on."""


class ConsentError(CodesignError, PermissionError):
    """Something was to be kept beyond the session, and the person has not agreed to that."""


class ServiceError(CodesignError):
    """A gateway answered with an error; ``status`` is the one of HTTP and ``code`` the gateway's own word for it."""

    def __init__(self, message: str, status: int = 0, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class AuditError(CodesignError):
    """The audit trail cannot be written, or its key or head is missing or damaged."""
