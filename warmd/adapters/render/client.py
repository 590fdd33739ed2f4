"""``docker stack deploy`` as a compiler: compose files in, create calls out, nothing touched.

The client runs in the release's tree with exactly the environment that it is given: no ``PATH``, no
``HOME``, so that what it makes of ``${HOME}`` does not depend on the machine. Where it reads its own
settings from is said with flags instead. It can read the release's tree and, where the kernel can confine
it, nothing else of the machine.
"""

from __future__ import annotations

import base64
import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

import anyio

from warmd.adapters import process
from warmd.adapters.render import confine, variables
from warmd.adapters.render.recorder import Post, recording
from warmd.errors import DockerUnreachable, Refused

#: Seconds for one run of the client; it takes about 0.2.
DEADLINE = 60.0

#: Most bytes of one compose file. The biggest ones in use have a tenth of it.
MAX_FILE = 1024 * 1024

#: What docker's client itself reads from its environment: it would not render what the files say.
_CLIENTS_OWN = re.compile(
    r"DOCKER_(HOST|CONTEXT|CONFIG|API_VERSION|TLS|TLS_VERIFY|CERT_PATH|CONTENT_TRUST.*|CUSTOM_HEADERS|"
    r"DEFAULT_PLATFORM|STACK_ORCHESTRATOR|ORCHESTRATOR|CLI_.*)"
)


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the client would have created, in its order, and what it warned of, a line each."""

    posts: tuple[Post, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Job:
    docker_host: str
    client: str
    stack: str
    tree: Path
    env: Mapping[str, str]
    readable: tuple[Path, ...]
    confined: bool

    async def run(self, files: Sequence[str], env: Mapping[str, str]) -> tuple[process.Completed, Recorded]:
        async with anyio.TemporaryDirectory(prefix="warmd-") as name:
            folder = Path(name)
            async with recording(self.docker_host, folder) as (recorder, address):
                done = await self._deploy(files, env, folder, address, ["--detach=true"])
                if done.code != 0 and b"unknown flag: --detach" in done.stderr:
                    # Clients before 26 know no other way than the one this flag asks for.
                    done = await self._deploy(files, env, folder, address, [])
            if done.code != 0 and recorder.daemon is not None:
                raise DockerUnreachable(
                    f"the Docker daemon at {self.docker_host} does not answer: {recorder.daemon}"
                )
            return done, Recorded(tuple(recorder.posts), _warnings(done.stderr.decode(errors="replace")))

    async def _deploy(
        self, files: Sequence[str], env: Mapping[str, str], folder: Path, address: str, more: list[str]
    ) -> process.Completed:
        named = [word for file in files for word in ("--compose-file", file)]
        argv = [self.client, "--config", str(folder), "--host", address, "stack", "deploy"]
        argv += ["--resolve-image", "never", *more, *named, self.stack]
        if self.confined:
            argv = confine.command(argv, [str(path) for path in (self.tree, folder, *self.readable)])
        return await process.run(argv, env=env, cwd=self.tree, deadline=DEADLINE, name="docker stack deploy")


async def record(
    docker_host: str,
    client: str,
    stack: str,
    files: Sequence[str],
    tree: Path,
    env: Mapping[str, str],
    *,
    readable: tuple[Path, ...] = (),
) -> Recorded:
    """What ``docker stack deploy`` would create for ``files`` (relative to ``tree``) in an empty stack.

    ``env`` is all that the files can refer to; ``readable`` are files and folders outside the tree that
    they may take content from. Raises Refused (a file is missing, does not parse or reaches elsewhere, a
    variable is not set, an external object is missing), with the client's words, and DockerUnreachable.
    """
    if own := sorted(name for name in env if _CLIENTS_OWN.fullmatch(name)):
        raise Refused(
            f"{', '.join(own)} in the environment of stack {stack} is read by docker's client itself",
            hint="take it out of env and env_file",
        )
    path = _find(client)
    confined = confine.available()
    job = _Job(docker_host, path, stack, tree, env, readable, confined)
    texts = await anyio.to_thread.run_sync(_read, tree, tuple(files))
    if not confined:
        _refuse_env_files(texts)
    if candidates := variables.unset(texts.values(), env):
        await _refuse_unset(job, texts, candidates)
    done, recorded = await job.run(files, env)
    if done.code != 0:
        reason = _reason(done)
        hint = _OUTSIDE if "permission denied" in reason and "open /" in reason else ""
        raise Refused(f"{', '.join(files)}: {reason}", hint=hint)
    if not confined:
        await anyio.to_thread.run_sync(_refuse_strange_content, recorded, files, (tree, *readable))
    return recorded


#: What may have been meant where the client was not allowed to read something.
_OUTSIDE = "a compose file may only take files of its release, and what deploy.allow.files lists"


def _refuse_env_files(texts: Mapping[str, str]) -> None:
    """Without Landlock nothing keeps an ``env_file`` inside; an escape could hide the word."""
    for file, text in texts.items():
        if "env_file" in text or re.search(r"\\[xuU]", text):
            raise Refused(
                f"{file}: env_file could name any file here, and this kernel has no Landlock to stop it",
                hint="use a kernel with Landlock (Linux 5.13), or write the variables into the compose file",
            )


def _refuse_strange_content(recorded: Recorded, files: Sequence[str], roots: Sequence[Path]) -> None:
    """Without Landlock: what a config or secret holds must be a file that it may be from."""
    wanted = {
        base64.b64decode(post.body["Data"]): f"{post.kind[:-1]} {post.body['Name']}"
        for post in recorded.posts
        if post.kind in ("configs", "secrets") and post.body.get("Data")
    }
    sizes = {len(content) for content in wanted}
    for root in roots if wanted else ():
        for path in [root] if root.is_file() else root.rglob("*"):
            inside = path.resolve().is_relative_to(root.resolve())
            if inside and path.is_file() and path.stat().st_size in sizes:
                wanted.pop(path.read_bytes(), None)
    if wanted:
        named = ", ".join(sorted(wanted.values()))
        raise Refused(f"{', '.join(files)}: the content of {named} is no file of the release", hint=_OUTSIDE)


def _find(client: str) -> str:
    path = shutil.which(client)
    if path is None:
        raise Refused(
            f"docker's client {client!r} was not found", hint="install docker's command line client"
        )
    return str(Path(path).absolute())


def _read(tree: Path, files: tuple[str, ...]) -> dict[str, str]:
    root = tree.resolve()
    texts = {}
    for file in files:
        path = (root / file).resolve()
        if not path.is_relative_to(root):
            raise Refused(f"{file} leads out of the release's tree")
        try:
            if path.stat().st_size > MAX_FILE:
                raise Refused(f"{file} has {path.stat().st_size:,} bytes, more than {MAX_FILE:,}")
            texts[file] = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise Refused(f"{file} is not in this release", hint="correct deploy.files") from None
        except (OSError, UnicodeDecodeError) as error:
            raise Refused(f"{file} can't be read: {error}") from error
    return texts


async def _refuse_unset(job: _Job, texts: Mapping[str, str], candidates: Sequence[str]) -> None:
    """Let the client itself say which variables it misses, by asking it to insist on each.

    ``docker stack deploy`` takes an unset variable for an empty string and says nothing. But it knows
    ``${X?message}``: with a plain ``$X`` written so, in copies, it stops where X is really used.
    Comments and keys are not interpolated, which only the client knows for sure.
    """
    missing = [name for name in candidates if await _misses(job, texts, name)]
    if missing:
        listed, one = ", ".join(missing), missing[0]
        raise Refused(
            f"{', '.join(texts)}: {listed} {'are' if len(missing) > 1 else 'is'} not set",
            hint=f"set {one} in deploy.env or deploy.env_file, or write ${{{one}:-}} where empty is fine",
        )


async def _misses(job: _Job, texts: Mapping[str, str], name: str) -> bool:
    # Beside the first file, because that is where the client starts relative paths from.
    folder = (job.tree / next(iter(texts))).parent
    with ExitStack() as stack:
        copies = []
        for text in texts.values():
            copy = stack.enter_context(
                NamedTemporaryFile("w", dir=folder, prefix=".warmd-", suffix=".yml", encoding="utf-8")
            )
            copy.write(variables.insist(text, name))
            copy.flush()
            copies.append(copy.name)
        done, _ = await job.run(copies, job.env)
    return done.code != 0 and variables.missing(done.stderr.decode(errors="replace")) == name


def _said(stderr: str) -> list[str]:
    return [" ".join(line.split()) for line in stderr.splitlines() if line.strip()]


def _warnings(stderr: str) -> tuple[str, ...]:
    """What was ignored. The notice about --detach speaks of the client, not of the files."""
    about_client = ("Since --detach", "In a future release")
    return tuple(line for line in _said(stderr) if not line.startswith(about_client))


def _reason(done: process.Completed) -> str:
    ignored = ("Ignoring ", "Since --detach", "In a future release")
    lines = [line for line in _said(done.stderr.decode(errors="replace")) if not line.startswith(ignored)]
    return "; ".join(lines)[-2000:] or done.reason
