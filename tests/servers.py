"""Private, throw-away PostgreSQL and MariaDB servers: started on first use, stopped at the end.

A server lives in a temporary folder and listens on a free port of 127.0.0.1 only. It runs in the
foreground as our child, so that its pid is known and nothing else is ever signalled; where `setpriv`
exists the kernel also ends it when we die without a word. Both servers refuse to run as root: then
they run as `postgres` or `mysql` (or `nobody`). Durability is off; the data is worth nothing.

Most tests share the one server of a kind (`find_server`). A test that stops, restarts or freezes one
makes its own: `with own_server(PostgreSQL) as server: server.restart()`.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterator

START_SECONDS = 60  # a busy two-core machine needs about 3
STOP_SECONDS = 20
FROZEN_SECONDS = 15
#: Folders to look into besides PATH: Debian keeps servers out of it.
POSTGRESQL_HOMES = ("/usr/lib/postgresql", "/usr/pgsql", "/opt/homebrew/opt/postgresql", "/usr/local/pgsql")
SYSTEM_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/usr/libexec", "/opt/homebrew/bin")
#: The kernel ends a server with the *thread* that started it, so that must be one that stays to the end.
LAUNCHER = ThreadPoolExecutor(1, "server launcher")


class ServerMissing(Exception):
    """A server cannot be started here; the text says why and what to install."""


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def find_program(*names: str) -> str | None:
    """Return the path of the first of *names* that is installed, on PATH or in a usual folder."""
    for name in names:
        if found := shutil.which(name):
            return os.path.realpath(found)
        for folder in SYSTEM_FOLDERS:
            if os.access(Path(folder, name), os.X_OK):
                return str(Path(folder, name))
    return None


def find_postgresql() -> Path | None:
    """Return the folder of PostgreSQL's programs, the newest version first."""
    for home in POSTGRESQL_HOMES:
        versions = sorted(
            Path(home).glob("*/bin"), key=lambda p: [int(n) for n in p.parent.name.split(".") if n.isdigit()]
        )
        for folder in (*reversed(versions), Path(home, "bin")):
            if (folder / "initdb").exists() and (folder / "postgres").exists():
                return folder
    found = find_program("initdb")
    return Path(found).parent if found else None


def account(*names: str) -> pwd.struct_passwd | None:
    """Return the first of the accounts *names* that exists if we are root, else None (run as we are)."""
    if os.geteuid() != 0:
        return None
    for name in names:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    msg = f"running as root, and none of the accounts {', '.join(names)} exists to run the server as"
    raise ServerMissing(msg)


class Server:
    """One child process with its folder; the subclasses say how to create and start it."""

    name: ClassVar[str]
    accounts: ClassVar[tuple[str, ...]]
    stop_signal: ClassVar[signal.Signals]
    crash_signal: ClassVar[signal.Signals]

    def __init__(self) -> None:
        self.user = account(*self.accounts)
        self.folder = Path(tempfile.mkdtemp(prefix=f"sojourn-{self.name}-"))
        self.port = free_port()
        self.log = self.folder / "server.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.owner = os.getpid()
        atexit.register(self.stop)  # also when the run crashes; stopping twice is harmless
        if self.user is not None:
            os.chown(self.folder, self.user.pw_uid, self.user.pw_gid)
        try:
            self.create()
            self.start()
        except BaseException:
            self.stop()
            raise

    def __repr__(self) -> str:
        pid = self.process.pid if self.process else None
        return f"<{self.name} port {self.port} pid {pid} in {self.folder}>"

    def create(self) -> None:
        """Create the data folder."""
        raise NotImplementedError

    def command(self) -> list[str]:
        """Return the command that runs the server in the foreground."""
        raise NotImplementedError

    def start(self) -> None:
        """Start the server and wait until it accepts connections."""
        guard = shutil.which("setpriv")
        prefix = [guard, "--pdeathsig", self.stop_signal.name.removeprefix("SIG")] if guard else []
        with self.log.open("ab") as log:
            self.process = LAUNCHER.submit(
                subprocess.Popen,
                [*prefix, *self.command()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **self.identity(),
            ).result()
        deadline = time.monotonic() + START_SECONDS
        while not self.is_listening():
            if self.process.poll() is not None or time.monotonic() > deadline:
                msg = f"{self.name} did not start:\n{self.log.read_text(errors='replace')[-2000:]}"
                raise ServerMissing(msg)
            time.sleep(0.05)

    def is_listening(self) -> bool:
        """Return whether the port accepts a connection."""
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def halt(self, *, at_once: bool = False) -> None:
        """End the server and keep its folder: `start` goes on from there, on the same port.

        *at_once* ends it without goodbyes and without writing anything, as a crash would.
        """
        if os.getpid() != self.owner:
            return  # a forked child has no say
        process, self.process = self.process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(self.crash_signal if at_once else self.stop_signal)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def restart(self, *, at_once: bool = False) -> None:
        """Stop the server, start it again on the same port and data, return once it accepts connections."""
        self.halt(at_once=at_once)
        self.start()

    @contextlib.contextmanager
    def frozen(self, pid: int | None = None) -> Iterator[None]:
        """Stop the server, or its process *pid* alone, from running; its sockets stay open and silent.

        It runs again after FROZEN_SECONDS in any case, so that what waits for ever is only a failed test.
        """
        assert self.process is not None
        pid = pid or self.process.pid
        os.kill(pid, signal.SIGSTOP)
        end = threading.Timer(FROZEN_SECONDS, os.kill, (pid, signal.SIGCONT))
        end.daemon = True
        end.start()
        try:
            while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
                time.sleep(0.001)  # its threads stop one after the other
            yield
        finally:
            end.cancel()
            os.kill(pid, signal.SIGCONT)

    def stop(self) -> None:
        """Stop the server by its pid and remove its folder; a forked child does nothing."""
        if os.getpid() != self.owner:
            return
        self.halt()
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, *command: str | Path) -> None:
        """Run a program of the server to its end, as the server's account."""
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, cwd=self.folder,
            **self.identity(),
        )  # fmt: skip
        if done.returncode:
            msg = f"{Path(command[0]).name} failed:\n{(done.stdout + done.stderr)[-2000:]}"
            raise ServerMissing(msg)

    def identity(self) -> dict[str, object]:
        """Return the arguments of `Popen` that make the child run as the server's account."""
        if self.user is None:
            return {}
        return {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []}


class PostgreSQL(Server):
    """A PostgreSQL cluster of its own; superuser `sojourn`, no password."""

    name = "postgresql"
    accounts = ("postgres", "nobody")
    stop_signal = signal.SIGINT  # fast shutdown: open connections are cut
    crash_signal = signal.SIGQUIT  # immediate shutdown: the postmaster takes its children along

    def __init__(self) -> None:
        folder = find_postgresql()
        if folder is None:
            msg = "no PostgreSQL server found (initdb): apt-get install postgresql"
            raise ServerMissing(msg)
        self.programs = folder
        super().__init__()

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def create(self) -> None:
        """Create the cluster."""
        self.run(
            self.programs / "initdb", "--pgdata", self.data, "--username=sojourn", "--auth=trust",
            "--encoding=UTF8", "--locale=C", "--no-sync",
        )  # fmt: skip

    def command(self) -> list[str]:
        """Return the command of the server."""
        settings = {
            "port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": self.folder,
            "fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "autovacuum": "off",
            "max_connections": 100, "max_prepared_transactions": 20, "timezone": "UTC",
        }  # fmt: skip
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(self.programs / "postgres"), "-D", str(self.data), *options]


class MariaDB(Server):
    """A MariaDB data folder of its own; account `sojourn`, password `sojourn`."""

    name = "mariadb"
    accounts = ("mysql", "nobody")
    stop_signal = signal.SIGTERM
    crash_signal = signal.SIGKILL

    def __init__(self) -> None:
        server, install = find_program("mariadbd", "mysqld"), find_program("mariadb-install-db")
        if server is None or install is None:
            msg = "no MariaDB server found (mariadbd, mariadb-install-db): apt-get install mariadb-server"
            raise ServerMissing(msg)
        self.server, self.install = server, install
        super().__init__()

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def create(self) -> None:
        """Create the system tables, and a file that creates our account at start."""
        self.run(
            self.install, "--no-defaults", f"--datadir={self.data}", "--skip-test-db",
            "--auth-root-authentication-method=normal",
        )  # fmt: skip
        accounts = "".join(  # one statement a line, as an init file wants it
            f"CREATE USER IF NOT EXISTS sojourn@'{host}' IDENTIFIED BY 'sojourn';\n"
            f"GRANT ALL ON *.* TO sojourn@'{host}';\n"
            for host in ("127.0.0.1", "localhost")
        )
        (self.folder / "init.sql").write_text(accounts)
        (self.folder / "init.sql").chmod(0o644)

    def command(self) -> list[str]:
        """Return the command of the server."""
        return [
            self.server, "--no-defaults", f"--datadir={self.data}", f"--port={self.port}",
            "--bind-address=127.0.0.1", f"--socket={self.folder / 'socket'}",
            f"--pid-file={self.folder / 'pid'}", f"--tmpdir={self.folder}",
            f"--init-file={self.folder / 'init.sql'}", "--skip-name-resolve", "--skip-log-bin",
            "--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0", "--innodb-buffer-pool-size=64M",
            "--character-set-server=utf8mb4", "--collation-server=utf8mb4_general_ci",
        ]  # fmt: skip


_started: dict[type[Server], Server | ServerMissing] = {}


def find_server(kind: type[Server]) -> Server | ServerMissing:
    """Return the running server of *kind*, started now if need be, or the reason why there is none."""
    if kind not in _started:
        try:
            _started[kind] = kind()
        except ServerMissing as missing:
            _started[kind] = missing
    return _started[kind]


@contextlib.contextmanager
def own_server(kind: type[Server]) -> Iterator[Server]:
    """Start a server that nobody else uses, and stop it at the end; raises ServerMissing."""
    server = kind()
    try:
        yield server
    finally:
        server.stop()
        atexit.unregister(server.stop)


def stop_all() -> None:
    """Stop every server that was started; the next use starts anew."""
    for server in _started.values():
        if isinstance(server, Server):
            server.stop()
    _started.clear()


def wait_gone(pid: int, seconds: float) -> bool:
    """Return whether process *pid* ends within *seconds*."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        stat = Path(f"/proc/{pid}/stat")
        if not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False
