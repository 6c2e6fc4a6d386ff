"""Real servers for tests: in a folder of their own, reached through a socket in it, gone afterwards."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
import psycopg
import redis

from codesign_kernel.session.doctor import postgresql_programs

#: Seconds that a server has to answer; PostgreSQL first repairs what a kill left behind.
PATIENCE_S = 60


class Server:
    """One server: started, killed, started again on the same data, stopped."""

    def __init__(self) -> None:
        # not pytest's folder: a socket's path has 107 characters at most, and another user must get there
        self.folder = Path(tempfile.mkdtemp(prefix="codesign-server-"))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        shutil.rmtree(self.folder)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            # a group of its own, so that its children are killed with it
            self._process = subprocess.Popen(
                self.command(),
                cwd=self.folder,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        deadline_s = time.monotonic() + PATIENCE_S
        while not self.answers():
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                raise RuntimeError(f"{self.command()[0]} does not answer:\n{(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.05)

    def kill(self) -> None:
        """SIGKILL, to it and its children, which may have groups of their own; back when all of them are gone."""
        if self._process is not None:
            children: list[psutil.Process] = []
            with suppress(psutil.NoSuchProcess):
                children = psutil.Process(self._process.pid).children(recursive=True)
            with suppress(ProcessLookupError):  # it is gone already
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
            for child in children:
                with suppress(psutil.NoSuchProcess):
                    child.kill()
            deadline_s = time.monotonic() + PATIENCE_S
            while any(map(_lives, children)) and time.monotonic() < deadline_s:
                time.sleep(0.02)

    def command(self) -> list[str]:
        raise NotImplementedError

    def answers(self) -> bool:
        raise NotImplementedError


def _lives(process: psutil.Process) -> bool:
    """Whether it holds anything: a zombie, which whoever adopts it may leave lying for seconds, does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Postgres(Server):
    """PostgreSQL, which does not run as root."""

    def __init__(self) -> None:
        super().__init__()
        programs = postgresql_programs()
        assert programs is not None, "tests that use it are marked, and skipped without it"
        self._programs, self._numbers = programs, itertools.count()

    def start(self) -> None:
        """Start it, and wait until it answers; the first time, make its data."""
        if not (self.folder / "data").exists():
            self._set_up()
        super().start()

    def _set_up(self) -> None:
        nobody = pwd.getpwnam("nobody")
        if not os.geteuid():
            os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
        setup = [str(self._programs / "initdb"), "-D", str(self.folder / "data"), "-U", "codesign", "-A", "trust"]
        setup += ["-E", "UTF8", "--locale=C", "--no-sync"]
        done = subprocess.run(
            [*self._as_nobody(), *setup], cwd=self.folder, capture_output=True, text=True, timeout=PATIENCE_S
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def _as_nobody(self) -> list[str]:
        """What comes before a command of PostgreSQL, if we are root."""
        if os.geteuid():
            return []
        prefix = ["setpriv", "--reuid=nobody", f"--regid={pwd.getpwnam('nobody').pw_gid}", "--clear-groups"]
        if not os.stat(os.devnull).st_mode & stat.S_IWOTH:  # as on some virtual machines; initdb's shell writes to it
            prefix += ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
        return prefix

    def command(self) -> list[str]:
        program, data = str(self._programs / "postgres"), str(self.folder / "data")
        # what a killed server has handed to the system is not lost, so that only a power cut would need fsync
        settings = [part for name in ("listen_addresses=", "max_connections=50", "fsync=off") for part in ("-c", name)]
        return [*self._as_nobody(), program, "-D", data, "-k", str(self.folder), *settings]

    def connect(self) -> psycopg.Connection[tuple[object, ...]]:
        """A connection for what the tests do to the server itself."""
        return psycopg.connect(host=str(self.folder), user="codesign", dbname="postgres", autocommit=True)

    def answers(self) -> bool:
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def new_store(self) -> str:
        """The URL of an empty store: a schema of its own, as a database takes a second to make and to remove."""
        name = f"test_{next(self._numbers)}"
        with self.connect() as connection:
            connection.execute(f"CREATE SCHEMA {name}".encode())
        return f"postgresql://codesign@/postgres?host={self.folder}&options=-csearch_path%3D{name}"


class Redis(Server):
    """Redis, which keeps nothing on disk: after a kill it is empty."""

    @property
    def url(self) -> str:
        return f"unix://{self.folder}/redis.sock"

    def command(self) -> list[str]:
        socket = str(self.folder / "redis.sock")
        quiet = ["--save", "", "--appendonly", "no", "--dir", str(self.folder)]
        return ["redis-server", "--port", "0", "--unixsocket", socket, *quiet]

    def answers(self) -> bool:
        with redis.Redis.from_url(self.url) as client:
            try:
                return bool(client.ping())
            except redis.ConnectionError:
                return False
