"""A cell: one private folder and the way to start a process that can use nothing else."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from codesign_kernel.errors import SandboxError
from codesign_kernel.scopes import VARIABLE, Scope, toml_of
from codesign_kernel.server.sandbox import compiled, groups, launch, tree
from codesign_kernel.server.sandbox.confinement import Confinement, free_uid, give_back

#: Of the gateway's environment a cell gets these; everything else is set here or given by name.
_KEPT = ("LANG", "LC_ALL", "LC_CTYPE", "TZ")
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_SYSTEM = (
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime",
    "/etc/mime.types", "/etc/fonts",
)  # fmt: skip
#: The longest path of a Unix socket (108 bytes with its end, linux/un.h) leaves that much for a cell's folder.
_LONGEST = 107 - len("/conn/kernel-99")
_OPEN_FILES = 1024
#: Longer than any machine is up.
_LASTING_S = 10**9
_OURS = ("codesign_kernel", "codesign_widgets")


def code_folders() -> list[Path]:
    """What Python needs to run here: the interpreter, the environment, and our packages where they are not in it."""
    found = {Path(sys.prefix), Path(sys.base_prefix), Path(sysconfig.get_path("purelib"))}
    return sorted({path.resolve() for path in found} | set(found)) + [path for _, path in _packages()]


def _packages() -> list[tuple[str, Path]]:
    """(name, folder) of our packages; a checkout keeps one of them under another name."""
    found = []
    for name in _OURS:
        about = find_spec(name)
        if about is not None and about.submodule_search_locations:
            found.append((name, Path(next(iter(about.submodule_search_locations))).resolve()))
    return found


class Cell:
    """A private folder, and what starts in it confined.

    Args:
        scope: what it may do; its limits hold for everything that runs in the cell together.
        confinement: of :func:`probe`.
        run_root: the folder of all cells; made where it is not there, and nobody else's.
        read_only: files and folders that it may read and execute besides Python, our code and /usr.
        trusted: what runs in it is our own code, which is given checked numbers only: its processes may speak with one
            another by TCP, on a network of the cell's own where the system gives one, see each other in /proc, have
            semaphores, and last (``wall_s`` and ``cpu_s`` of the scope do not end them).
        without: guards to leave off, for the tests that show what each of them is for.

    Attributes:
        folder: private to the cell: nobody else, and no other cell, reads or lists it. Its name cannot be guessed.
        work: the working directory. ``home`` and ``connections`` are beside it.
        socket: where the broker of this cell listens; use :meth:`listen`.
        scope_file: the scope, which the cell can read and not change.
        uid: the cell's own user, where the gateway is root; ``None``: the gateway's.
    """

    def __init__(
        self,
        scope: Scope,
        confinement: Confinement,
        run_root: Path,
        read_only: Sequence[Path] = (),
        *,
        trusted: bool = False,
        without: Sequence[str] = (),
    ) -> None:
        self.scope, self.confinement = scope, confinement
        self._read_only = tuple(Path(path).resolve() for path in read_only)
        self._without, self._trusted = tuple(without), trusted
        root = Path(run_root).resolve()
        root.mkdir(parents=True, exist_ok=True, mode=0o711)
        self.folder = root / secrets.token_urlsafe(16)
        if len(os.fsencode(self.folder)) > _LONGEST:
            raise SandboxError(
                f"the folder of a cell has at most {_LONGEST} bytes, because sockets lie in it, but {root} is too long "
                "for that; choose a shorter data_dir"
            )
        self.work, self.home, self.connections = (self.folder / name for name in ("work", "home", "conn"))
        self.socket = self.folder / "broker"
        self.scope_file = self.folder / f"{scope.name}.toml"
        self.uid = free_uid(confinement) if confinement.own_user and "uid" not in self._without else None
        self._groups: list[str] = []
        self._make()

    def _make(self) -> None:
        self.folder.mkdir(mode=0o700)
        code = self.folder / "code"
        for path in (self.work, self.work / "tmp", self.home, self.home / "cache", self.connections, code):
            path.mkdir(mode=0o700)
        for name, path in _packages():
            (code / name).symlink_to(path)
        self.scope_file.write_text(toml_of(self.scope), encoding="utf-8")
        self.scope_file.chmod(0o440)
        if self.uid is None:
            self.lay()
            return
        os.chown(self.folder, -1, self.uid)
        self.folder.chmod(0o710)  # it may pass through, and neither list nor change it
        os.chown(self.scope_file, -1, self.uid)
        os.chown(code, -1, self.uid)
        code.chmod(0o750)
        for path in (self.work, self.work / "tmp", self.home, self.home / "cache", self.connections):
            self.give(path)
        self.lay()

    def lay(self) -> bool:
        """Lay in what was compiled for all cells; whether it is there. One that lasts may be older than that."""
        cache = self.home / "cache"
        numba = cache / "numba"
        if not numba.exists():  # else it is laid in, or the cell has begun to compile for itself
            for path in compiled.lay(self.folder.parent, self.folder / "code", cache, self.scope.capabilities):
                self.give(path)
        return numba.exists()

    def give(self, path: Path) -> None:
        """Make the cell's user the owner of a file that the gateway wrote into the folder."""
        if self.uid is not None:
            os.chown(path, self.uid, self.uid, follow_symlinks=False)

    def listen(self) -> socket.socket:
        """A listening socket at ``socket``, to which this cell and the gateway can connect."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        before = os.umask(0o177)
        try:
            listener.bind(os.fspath(self.socket))
        finally:
            os.umask(before)
        self.give(self.socket)
        listener.listen(64)
        return listener

    def _spec(self) -> dict[str, Any]:
        limits, file_bytes = dict(self.scope.limits), self.scope.limits["disk_bytes"]
        if self._trusted:
            limits |= {"wall_s": _LASTING_S, "cpu_s": _LASTING_S}
        kind = self.confinement.kind
        readable = [*code_folders(), *self._read_only, self.scope_file, self.folder / "code"]
        return {
            "kind": kind,
            "landlock": kind == "landlock",
            "seccomp": kind != "none",
            "parent": os.getpid(),
            "folder": os.fspath(self.folder),
            "work": os.fspath(self.work),
            "broker": os.fspath(self.socket),
            "uid": self.uid,
            "read_all": self.uid is not None and self.confinement.read_all,
            "read": [*_SYSTEM, *map(os.fspath, readable)],
            "write": [os.fspath(path) for path in (self.work, self.home, self.connections)],
            "limits": {name: limits[name] for name in ("wall_s", "cpu_s", "memory_bytes", "processes", "disk_bytes")},
            "rlimits": {
                "RLIMIT_CPU": (limits["cpu_s"], limits["cpu_s"] + 1),
                "RLIMIT_DATA": (limits["memory_bytes"],) * 2,
                "RLIMIT_FSIZE": (file_bytes, file_bytes),
                "RLIMIT_NOFILE": (_OPEN_FILES, _OPEN_FILES),
                "RLIMIT_CORE": (0, 0),
                "RLIMIT_MSGQUEUE": (0, 0),
                "RLIMIT_MEMLOCK": (0, 0),
            }
            | ({"RLIMIT_NPROC": (limits["processes"],) * 2} if self.uid is not None else {}),
            "groups": self._groups,
            "trusted": self._trusted,
            "without": self._without,
        }

    def command(self, argv: Sequence[str]) -> list[str]:
        """``argv`` as it has to be started by this process, and only by it, to run in the cell."""
        limits = self.scope.limits
        for folder, folders, files in os.walk(self.work):  # what the gateway laid in there
            for name in (*folders, *files):
                self.give(Path(folder, name))
        groups.remove(self._groups)
        if "groups" not in self._without and self.confinement.kind != "none":
            name = f"codesign-{self.folder.name}-{secrets.token_hex(4)}"
            self._groups = groups.make(name, limits["memory_bytes"], limits["processes"])
        spec = self.folder / "launch.json"
        spec.write_text(json.dumps(self._spec()), encoding="utf-8")
        spec.chmod(0o600)
        root = os.fspath(Path(launch.__file__).parents[3])
        start = "import sys; sys.path.append(sys.argv.pop(1)); from {0} import main; main(sys.argv[1:])"
        return [sys.executable, "-I", "-S", "-c", start.format(launch.__name__), root, os.fspath(spec), *argv]

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """The whole environment of a process in the cell: nothing of the gateway's but language and time zone."""
        home, work = os.fspath(self.home), os.fspath(self.work)
        return {
            **{name: text for name, text in os.environ.items() if name in _KEPT or "environment" in self._without},
            "PATH": os.pathsep.join([os.fspath(Path(sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin"]),
            "PYTHONPATH": os.fspath(self.folder / "code"),
            "PYTHONNOUSERSITE": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "HOME": home,
            "USER": "cell",
            "LOGNAME": "cell",
            "TMPDIR": f"{work}/tmp",
            "IPYTHONDIR": f"{home}/ipython",
            "JUPYTER_RUNTIME_DIR": f"{home}/runtime",
            "MPLCONFIGDIR": f"{home}/matplotlib",
            "NUMBA_CACHE_DIR": f"{home}/cache/numba",
            "XDG_CACHE_HOME": f"{home}/cache",
            "CODESIGN_CACHE_DIR": f"{home}/cache/codesign",
            "CODESIGN_DATA_DIR": f"{home}/data",
            "JOBLIB_MULTIPROCESSING": "0",  # its semaphores would lie in /dev/shm, which is nobody's
            **dict.fromkeys(_THREADS, "1"),
            VARIABLE: os.fspath(self.scope_file),
            **({"CODESIGN_BROKER": os.fspath(self.socket)} if self.socket.exists() else {}),
            **(extra or {}),
        }

    def start(
        self, argv: Sequence[str], extra: Mapping[str, str] | None = None, **given: Any
    ) -> subprocess.Popen[bytes]:
        """Start ``argv`` in the cell; ``given`` goes to Popen. SIGTERM to what comes back ends all of the cell."""
        return subprocess.Popen(
            self.command(argv), env=self.environment(extra), cwd=self.folder, start_new_session=True, **given
        )

    def ending(self) -> tuple[int, str] | None:
        """(status, reason) of the last process that ran here to its end; ``None``: none yet."""
        try:
            found = json.loads((self.folder / "end.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return found["status"], found["reason"]

    def usage_bytes(self) -> int:
        """Bytes that everything in the folder takes on disk."""
        return launch.usage_bytes(os.fspath(self.folder))

    def remove(self) -> None:
        """Delete the folder and everything in it, and end what a launcher left that was itself killed."""
        if self.uid is not None:
            tree.end_user(self.uid)
            give_back(self.uid)
            self.uid = None
        groups.remove(self._groups)
        shutil.rmtree(self.folder, ignore_errors=True)
