"""Secrets that can be told from anything else, and looking for them in whatever form."""

from __future__ import annotations

import base64
import hashlib
import secrets
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote


def canary(name: str) -> str:
    """A secret that nobody had before, with characters that are written differently in URLs and JSON."""
    return f"{name}%{secrets.token_hex(8)}/+\"'é"


def forms(secret: str) -> dict[str, bytes]:
    """The secret as it could be written: form -> bytes to look for."""
    raw = secret.encode()
    found = {
        "plain": raw,
        "JSON": secret.replace('"', '\\"').encode(),
        "JSON, ASCII": secret.replace('"', '\\"').replace("é", "\\u00e9").encode(),
        "percent-encoded": quote(secret, safe="").encode(),
        "hexadecimal": raw.hex().encode(),
        "its middle": secret.partition("%")[2][:16].encode(),
    }
    for offset in range(3):  # inside of something longer, base64 looks different at each offset
        coded = base64.b64encode(b"\0" * offset + raw)
        found[f"base64, offset {offset}"] = coded[4:-4] if offset else coded[:-4]
        found[f"URL base64, offset {offset}"] = base64.urlsafe_b64encode(b"\0" * offset + raw)[4:-4]
    for algorithm in ("md5", "sha1", "sha256", "sha512"):  # a guess can be proved by a plain hash
        found[algorithm] = hashlib.new(algorithm, raw).hexdigest().encode()
    return found


def found_in(data: bytes, secrets: Mapping[str, str]) -> set[str]:
    """Which secrets ``data`` holds, and in which form: "name (form)"."""
    return {
        f"{name} ({form})"
        for name, secret in secrets.items()
        for form, wanted in forms(secret).items()
        if wanted in data
    }


def found_below(
    folder: Path, secrets: Mapping[str, str], *, apart_from: Iterable[Path] = ()
) -> dict[str, set[str]]:
    """What of the secrets lies in any file below ``folder``, in its name or its content."""
    spared = set(apart_from)
    seen = {}
    for path in sorted(folder.rglob("*")):
        if path in spared or spared & set(path.parents):
            continue
        data = str(path).encode(errors="surrogateescape")
        if path.is_file() and not path.is_symlink():
            data += b"\n" + path.read_bytes()
        if found := found_in(data, secrets):
            seen[str(path.relative_to(folder))] = found
    return seen


@contextmanager
def watched_processes(secrets: Mapping[str, str]) -> Iterator[set[str]]:
    """Reads every command line of the machine over and over, as ``ps`` does; what was found."""
    found: set[str] = set()
    seen: set[bytes] = set()
    over = threading.Event()
    looks = 0

    def watch() -> None:
        nonlocal looks
        while not over.is_set():
            for place in Path("/proc").glob("[0-9]*/cmdline"):
                with suppress(OSError):
                    line = place.read_bytes()
                    if line not in seen:
                        seen.add(line)
                        found.update(f"{hit} in {line[:80]!r}" for hit in found_in(line, secrets))
            looks += 1
            time.sleep(0.01)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()
    assert looks > 3
