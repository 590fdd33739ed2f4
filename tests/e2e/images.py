"""Real Keycloak images: Debian with a Java runtime below, Maven Central's distribution on top.

Layers are kept under ``$XDG_CACHE_HOME/warmd-lab`` (default ~/.cache), so the second run is quick.
They are made with Debian's own tools from the mirror this machine uses, and with Maven's client.

``python -m tests.e2e.images check VERSION…`` exits 1 where something would have to be made.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from tests.lab import Lab
from tests.lab.registry import Json, Layer, push

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "warmd-lab"
BASE = "debian-java-1"  # raise the number when the recipe below changes
_KEYCLOAK_RECIPE = 1
_JUNK = (
    "var/cache/apt",
    "var/lib/apt/lists",
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "var/log",
)

CONFIG: Json = {
    "Cmd": ["/opt/keycloak/bin/kc.sh", "start", "--optimized"],
    "Env": [
        "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG=C.UTF-8",
        "KC_CACHE=local",
        # Two cores and short lives: the second compiler only gets in the way of the start.
        "JAVA_OPTS=-Xms64m -Xmx512m -XX:MaxMetaspaceSize=256m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
    ],
    "Volumes": {"/opt/keycloak/data": {}},
}


class ImageError(Exception):
    """An image could not be made."""


def publish(lab: Lab, version: str) -> str:
    """The image of that Keycloak version in the lab's registry; its reference."""
    push(lab.registry_url, "keycloak", version, layers(version), CONFIG)
    return f"{lab.registry}/keycloak:{version}"


def layers(version: str) -> list[Layer]:
    """From the cache, or made now (two minutes for everything)."""
    name = _name(version)
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in [*CACHE.glob("work-*"), *CACHE.glob("*.new")]:  # of a run that was killed
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        base = _cached(BASE) or _make_base()
        return [base, _cached(name) or _make_keycloak(base, version, name)]


def _name(version: str) -> str:
    return f"keycloak-{version}-{_KEYCLOAK_RECIPE}"


def _cached(name: str) -> Layer | None:
    """A layer that is whole, by its checksum; None where it is missing or damaged."""
    place, facts = CACHE / f"{name}.tar.gz", CACHE / f"{name}.json"
    try:
        layer = Layer(place, **json.loads(facts.read_text()))
        with place.open("rb") as file:
            whole = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}" == layer.digest
    except (OSError, ValueError, TypeError):
        return None
    return layer if whole else None


def _pack(name: str, root: Path, *members: str, level: int) -> Layer:
    """Pack ``members`` of ``root`` into the cache: written beside, renamed when whole, its facts last."""
    place, facts = CACHE / f"{name}.tar.gz", CACHE / f"{name}.json"
    draft = CACHE / f"{name}.new"
    plain, packed, size = hashlib.sha256(), hashlib.sha256(), 0
    gzip = zlib.compressobj(level, wbits=31)
    argv = ["tar", "--create", "--numeric-owner", "--one-file-system", f"--directory={root}", *members]
    try:
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as tar, draft.open("wb") as out:
            assert tar.stdout is not None
            for data in _blocks(tar.stdout):
                plain.update(data)
                size += _write(out, packed, gzip.compress(data))
            size += _write(out, packed, gzip.flush())
        if tar.returncode:
            raise ImageError(f"tar of {root} ended with {tar.returncode}")
        facts.unlink(missing_ok=True)
        draft.rename(place)
    finally:
        draft.unlink(missing_ok=True)
    told = {"digest": f"sha256:{packed.hexdigest()}", "diff_id": f"sha256:{plain.hexdigest()}", "size": size}
    draft.write_text(json.dumps(told))
    draft.rename(facts)
    return Layer(place, f"sha256:{packed.hexdigest()}", f"sha256:{plain.hexdigest()}", size)


def _blocks(stream: IO[bytes]) -> Iterator[bytes]:
    while data := stream.read(1 << 20):
        yield data


def _write(out: IO[bytes], digest: hashlib._Hash, data: bytes) -> int:
    digest.update(data)
    return out.write(data)


def _workshop() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="work-", dir=CACHE)


def _say(text: str) -> None:
    sys.stdout.write(f"  {text}\n")
    sys.stdout.flush()


def _run(*argv: str | Path, what: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise ImageError(f"{what}: {argv[0]} ended with {done.returncode}\n{lines}")
    return done.stdout


def _mirror() -> tuple[str, str]:
    """This machine's Debian mirror and release, as apt knows them from its sources."""
    wanted = [
        "indextargets",
        "--format",
        "$(REPO_URI) $(CODENAME) $(COMPONENT) $(ORIGIN)",
        "Created-By: Packages",
    ]
    for line in _run("apt-get", *wanted, what="reading apt's sources").splitlines():
        uri, codename, component, origin = line.split(maxsplit=3)
        if (component, origin) == ("main", "Debian") and "-" not in codename:
            return uri, codename
    raise ImageError("apt's sources name no Debian mirror: apt-get update, then try again")


def _make_base() -> Layer:
    uri, codename = _mirror()
    _say(f"making a base of Debian {codename} with Java (once, about a minute)")
    with _workshop() as folder:
        work = Path(folder)
        root = work / "root"
        include = "--include=default-jre-headless,ca-certificates"
        _run("debootstrap", "--variant=minbase", include, codename, root, uri, what="the base image")
        for junk in _JUNK:
            shutil.rmtree(root / junk, ignore_errors=True)
        return _pack(BASE, root, ".", level=1)


def _make_keycloak(base: Layer, version: str, name: str) -> Layer:
    _say(f"fetching Keycloak {version} with Maven and building it (once, about half a minute)")
    with _workshop() as folder:
        work = Path(folder)
        artifact = f"-Dartifact=org.keycloak:keycloak-quarkus-dist:{version}:tar.gz"
        goal = ("mvn", "-B", "-q", "dependency:copy", artifact, f"-DoutputDirectory={work}")
        _run(*goal, what=f"Keycloak {version} from Maven")
        root = work / "root"
        home = root / "opt/keycloak"
        root.mkdir()
        assert isinstance(base.blob, Path)
        _run("tar", "--extract", "--gzip", f"--file={base.blob}", f"--directory={root}", what="the base")
        home.mkdir(parents=True)
        dist = work / f"keycloak-quarkus-dist-{version}.tar.gz"
        strip = ("--strip-components=1", "--no-same-owner", f"--directory={home}")
        _run("tar", "--extract", "--gzip", f"--file={dist}", *strip, what="unpacking Keycloak")
        # As the official image is meant to be used: built once, started with --optimized.
        build = "mount -t proc proc proc && exec chroot . /opt/keycloak/bin/kc.sh build --db=dev-file"
        _run(
            *("unshare", "--mount", "--propagation", "private"),
            *("sh", "-c", f'cd "$1" && {build}', "sh", root),
            what="kc.sh build",
        )
        (home / "data").mkdir(exist_ok=True)
        # The distribution is archives inside already: packing them again would only take time.
        return _pack(name, root, "opt/keycloak", level=0)


def main(argv: list[str]) -> int:
    if argv[:1] != ["check"]:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    return 0 if all(_cached(name) for name in (BASE, *map(_name, argv[1:]))) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
