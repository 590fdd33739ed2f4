"""The lab: dockerd, containerd and a registry in a network namespace of their own, in one short folder."""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import httpx

from tests.lab import host, registry, warmapp
from tests.lab.note import LabError, Note, alone, notes, sweep_orphans
from tests.lab.stacks import Stacks

# Sockets live in the folder and their paths must stay under 108 bytes; /tmp may be in memory.
_HOME = Path(os.environ.get("WARMD_LAB_HOME", "/var/tmp"))
_REGISTRY_PORT = 5000
_BUSYBOX = Path("/bin/busybox")


class Lab(Stacks):
    """A started lab. Use as a context manager, or call ``stop``.

    docker_host   the engine's socket as ``unix://…``
    host          address of published ports, reachable from this process
    registry      the registry as image references name it, ``127.0.0.1:PORT`` (the engine's loopback)
    registry_url  the same registry for HTTP from this process
    api           an HTTP client for the Engine API
    """

    def __init__(self) -> None:
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._ports = itertools.count(20001)
        missing = [t for t in _TOOLS if shutil.which(t, path=_PATH) is None]
        if not _static(_BUSYBOX):
            missing.append("a static busybox")
        if os.geteuid():
            raise LabError("the lab starts its own dockerd: it needs root")
        if missing:
            raise LabError(
                f"the lab lacks {', '.join(missing)}: apt-get install docker.io docker-registry iptables"
                " iproute2 busybox-static"
            )
        with alone():
            sweep_orphans()
            self.note = self._reserve()
        name = self.note.name
        self.folder = Path(self.note.folder)
        here, self.host = _subnet(self.note.index)
        self.registry = f"127.0.0.1:{_REGISTRY_PORT}"
        self.registry_url = f"http://{self.host}:{_REGISTRY_PORT}"
        self._socket = self.folder / "docker.sock"
        self.docker_host = f"unix://{self._socket}"
        self.api = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(self._socket)), base_url="http://docker", timeout=30
        )
        try:
            host.make_netns(name, name, here, self.host)
            self._start_containerd()
            self._start_registry()
            self._start_dockerd()
            self.api.post(
                "/swarm/init", json={"ListenAddr": "127.0.0.1:2377", "AdvertiseAddr": "127.0.0.1"}
            ).raise_for_status()
        except BaseException as error:
            logs = "" if isinstance(error, KeyboardInterrupt) else self._tails()
            self.stop()
            if isinstance(error, (OSError, httpx.HTTPError, LabError)):
                raise LabError(f"no lab: {error}\n{logs}") from error
            raise

    @staticmethod
    def _reserve() -> Note:
        # 198.18.0.0/15 is set aside for test beds: neither docker's pools nor a home network use it.
        # Labs of another container on this network are not in our notes: their addresses are asked for too.
        noted, seen = {note.index for note in notes()}, host.addresses()
        index = next(n for n in itertools.count(1) if n not in noted and _subnet(n)[0] not in seen)
        ident = secrets.token_hex(3)
        started = host.start_time(os.getpid())
        assert started is not None
        note = Note(
            ident, str(_HOME / f"wl-{ident}"), index, os.getpid(), started, host.boot_id(), time.time()
        )
        note.save()
        Path(note.folder).mkdir(mode=0o700)
        return note

    # Daemons

    def _spawn(self, name: str, *argv: str) -> None:
        env = {"PATH": _PATH, "HOME": str(self.folder), "LANG": "C.UTF-8", "TMPDIR": str(self.folder)}
        with (self.folder / f"{name}.log").open("ab") as log:
            self._children[name] = subprocess.Popen(
                ["nsenter", f"--net={host.NETNS / self.note.name}", "--", *argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=env,
                cwd=self.folder,
                start_new_session=True,  # Ctrl-C is for the one who uses the lab; it stops the lab itself
            )

    def _start_containerd(self) -> None:
        place = self.folder / "containerd"
        place.mkdir()
        (place / "config.toml").write_text(
            f'version = 2\nroot = "{place}/root"\nstate = "{place}/state"\n'
            'disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.restart"]\n'
            f'[grpc]\naddress = "{place}/sock"\n[ttrpc]\naddress = "{place}/ttrpc"\n'
        )
        self._spawn("containerd", "containerd", "--log-level", "warn", "--config", f"{place}/config.toml")
        self.wait(lambda: (place / "sock").is_socket(), "containerd's socket", child="containerd")

    def _start_registry(self) -> None:
        config = self.folder / "registry.yml"
        config.write_text(
            "version: 0.1\nlog: { level: error, accesslog: { disabled: true } }\n"
            f'storage: {{ filesystem: {{ rootdirectory: "{self.folder}/registry" }} }}\n'
            f'http: {{ addr: ":{_REGISTRY_PORT}" }}\n'
        )
        self._spawn("registry", "docker-registry", "serve", str(config))

        def answers() -> bool:
            with contextlib.suppress(httpx.TransportError):
                return httpx.get(f"{self.registry_url}/v2/", timeout=2).is_success
            return False

        self.wait(answers, "the registry's answer", child="registry")

    def _start_dockerd(self) -> None:
        (self.folder / "daemon.json").write_text("{}")  # or it would read the machine's own
        self._spawn(
            "dockerd",
            "dockerd",
            f"--config-file={self.folder}/daemon.json",
            f"--data-root={self.folder}/data",
            f"--exec-root={self.folder}/exec",
            f"--pidfile={self.folder}/dockerd.pid",
            f"--host={self.docker_host}",
            f"--containerd={self.folder}/containerd/sock",
            # Containers are found by this cgroup when the lab is swept; systemd has no say in it.
            "--exec-opt=native.cgroupdriver=cgroupfs",
            f"--cgroup-parent=/{self.note.name}",
            "--log-level=warn",
        )

        def answers() -> bool:
            # A bare socket first: httpx forgets to close a unix socket that nobody answers yet.
            with socket.socket(socket.AF_UNIX) as probe:
                if probe.connect_ex(str(self._socket)):
                    return False
            return self.api.get("/_ping").is_success

        self.wait(answers, "dockerd's answer", child="dockerd")

    def restart_dockerd(self, *, kill: bool = False) -> None:
        """Stop dockerd (SIGKILL with ``kill``) and start it again; returns when the swarm answers."""
        self.stop_dockerd(kill=kill)
        self._start_dockerd()
        self.wait(lambda: self.api.get("/services").is_success, "the swarm after a restart of dockerd")

    @contextlib.contextmanager
    def registry_gone(self) -> Iterator[None]:
        """No registry answers while the block runs; what it holds stays."""
        child = self._children["registry"]
        child.terminate()
        child.wait(timeout=60)
        try:
            yield
        finally:
            self._start_registry()

    @property
    def up(self) -> bool:
        """Whether dockerd runs."""
        return self._children["dockerd"].poll() is None

    def stop_dockerd(self, *, kill: bool = False) -> None:
        """Stop dockerd (SIGKILL with ``kill``) and leave it down until ``restart_dockerd``."""
        child = self._children["dockerd"]
        child.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        child.wait(timeout=60)
        if kill:
            (self.folder / "dockerd.pid").unlink(missing_ok=True)

    def stop(self) -> None:
        """Take everything away, at once: nothing in a lab is worth a grace period."""
        self.api.close()
        self.note.sweep()
        for child in self._children.values():
            child.wait(timeout=10)

    def keep(self) -> None:
        """Let the lab outlive this process; ``python -m tests.lab stop ID`` ends it."""
        self.note = Note(**{**asdict(self.note), "keep": True})
        self.note.save()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # What tests use

    @property
    def docker_env(self) -> dict[str, str]:
        """An environment for docker's client and warmd: this lab, none of the user's docker settings."""
        keep = {k: v for k, v in os.environ.items() if not k.startswith("DOCKER_")}
        return {**keep, "DOCKER_HOST": self.docker_host, "DOCKER_CONFIG": str(self.folder / "docker-config")}

    def docker(self, *args: str, stdin: bytes | None = None) -> str:
        """Run docker's client; its output without the last newline. Raises LabError with its message."""
        done = subprocess.run(
            ["docker", *args], input=stdin, env=self.docker_env, capture_output=True, check=False, timeout=300
        )
        if done.returncode:
            raise LabError(f"docker {' '.join(args)}: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout.decode(errors="replace").rstrip("\n")

    def free_port(self) -> int:
        """A port that nothing in this lab uses; given once only. Below the range of outgoing connections."""
        return next(self._ports)

    def wait(
        self, condition: Callable[[], object], what: str, *, deadline: float = 60, child: str | None = None
    ) -> None:
        """Return once ``condition()`` is true; LabError naming ``what`` after ``deadline`` seconds."""
        until = time.monotonic() + deadline
        while not condition():
            if child and (code := self._children[child].poll()) is not None:
                raise LabError(f"{child} ended with {code}\n{self._tails()}")
            if time.monotonic() > until:
                raise LabError(f"waited {deadline:.0f} s in vain for {what}")
            time.sleep(0.03)

    def image(
        self,
        repo: str,
        tag: str,
        files: Mapping[str, bytes | str],
        cmd: Sequence[str],
        *,
        healthcheck: Sequence[str] | None = None,
        volumes: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        user: str = "",
    ) -> str:
        """Put a busybox image into the registry (not onto the node); the reference ``registry/repo:tag``.

        ``files``: path -> content, all of mode 0755. ``healthcheck``: argv, asked every second.
        """
        packed = {p.lstrip("/"): (c.encode() if isinstance(c, str) else c, 0o755) for p, c in files.items()}
        config: dict[str, Any] = {
            "Cmd": list(cmd),
            "Env": ["PATH=/bin", *(f"{k}={v}" for k, v in (env or {}).items())],
            "Volumes": {v: {} for v in volumes},
            "Labels": dict(labels or {}),
            "User": user,
        }
        if healthcheck:
            second = 1_000_000_000
            config["Healthcheck"] = {
                "Test": ["CMD", *healthcheck],
                "Interval": second,
                "Timeout": 5 * second,
                "Retries": 3,
            }
        layers = [self._busybox(), *([registry.file_layer(packed)] if packed else [])]
        registry.push(self.registry_url, repo, tag, layers, config)
        return f"{self.registry}/{repo}:{tag}"

    def _busybox(self) -> registry.Layer:
        if not hasattr(self, "_base"):
            applets = subprocess.run(
                [_BUSYBOX, "--list"], capture_output=True, text=True, check=True
            ).stdout.split()
            links = {f"bin/{a}": "busybox" for a in applets if a != "busybox"}
            files = {
                "bin/busybox": (_BUSYBOX.read_bytes(), 0o755),
                "etc/passwd": (b"root:x:0:0:root:/:/bin/sh\n", 0o644),
                "etc/group": (b"root:x:0:\n", 0o644),
                "tmp/.keep": (b"", 0o644),
            }
            self._base = registry.file_layer(files, links)
        return self._base

    def warm_app(
        self,
        tag: str,
        *,
        repo: str = "warm",
        version: str | None = None,
        bad: warmapp.Bad | None = None,
        delay: float = 0,
        after: int = 0,
        linger: int = 0,
        healthcheck: bool = False,
    ) -> str:
        """The application of ``tests.lab.warmapp`` as an image; ``version`` is the tag unless given."""
        made = warmapp.warm_files(version or tag, bad=bad, delay=delay, after=after, linger=linger)
        files = {p: c for p, (c, _) in made.items()}
        check = ["wget", "-q", "-O", "-", "http://127.0.0.1/health"] if healthcheck else None
        return self.image(repo, tag, files, ["/app/start"], healthcheck=check)

    def remove_stack(self, name: str, *, volumes: bool = True) -> None:
        """Remove a stack and wait until its containers, networks and (unless told) volumes are gone."""
        for path in ("services", "configs", "secrets"):
            for item in self._listed(f"/{path}", name):
                self.api.delete(f"/{path}/{item['ID']}")

        def gone() -> bool:
            containers = self.containers(name)
            for container in containers:  # by force: the swarm would take 4 to 6 s
                self.api.delete(f"/containers/{container['Id']}", params={"force": "true"})
            networks = self._listed("/networks", name)
            for network in networks if not containers else ():
                self.api.delete(f"/networks/{network['Id']}")  # refused while an endpoint is left: again
            left = self.volumes(name) if volumes else []
            for volume in left if not containers else ():
                self.api.delete(f"/volumes/{volume}")
            return not (containers or networks or left or self.tasks(name))

        self.wait(gone, f"the end of stack {name}")

    def _tails(self) -> str:
        """The last lines of each daemon's log, for an error message."""
        out = []
        for log in sorted(self.folder.glob("*.log")):
            out += [f"--- {log.name}", *log.read_text(errors="replace").splitlines()[-12:]]
        return "\n".join(out)


def _subnet(index: int) -> tuple[str, str]:
    """The two addresses of the index-th /30: the host's end of the cable, the lab's end."""
    first = 4 * index
    here, there = (f"198.18.{n // 256}.{n % 256}" for n in (first + 1, first + 2))
    return here, there


def _static(program: Path) -> bool:
    """Whether it runs in an image that holds nothing else: it names no dynamic loader."""
    return program.exists() and b"/ld-linux" not in program.read_bytes()[:4096]


_TOOLS = ("dockerd", "containerd", "docker", "docker-registry", "ip", "iptables", "nsenter")
# A user's PATH may lack the sbin folders.
_PATH = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"
