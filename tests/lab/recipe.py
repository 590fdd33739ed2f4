"""A recipe: a git repository whose tags are releases, as an operator's upstream publishes them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

_WHO = {
    f"GIT_{role}_{what}": value
    for role in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "Recipe Maintainer"), ("EMAIL", "maintainer@example.org"))
}


class Recipe:
    """``path`` is made if it is missing; ``url`` is what a configuration names."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not (path / ".git").exists():
            path.mkdir(parents=True, exist_ok=True)
            self.git("init", "--quiet", "--initial-branch=main")

    @property
    def url(self) -> str:
        return self.path.as_uri()

    def git(self, *args: str) -> str:
        # The machine's own git settings (signing, hooks, templates) have no say here.
        env = {**os.environ, **_WHO, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
        env = {k: v for k, v in env.items() if k not in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")}
        done = subprocess.run(
            ["git", "-c", "advice.detachedHead=false", *args],
            cwd=self.path,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"git {' '.join(args)}: {done.stderr.strip()}")
        return done.stdout.strip()

    def write(self, files: Mapping[str, str | bytes]) -> None:
        for name, content in files.items():
            place = self.path / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content.encode() if isinstance(content, str) else content)

    def commit(self, message: str, files: Mapping[str, str | bytes] | None = None) -> str:
        """Commit the files to the main branch without a tag (late notes, say); the commit."""
        self.write(files or {})
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.git("rev-parse", "HEAD")

    def publish(
        self,
        version: str,
        *,
        compose: str | None = None,
        notes: str | bytes | None = None,
        files: Mapping[str, str | bytes] | None = None,
        annotated: bool = True,
    ) -> str:
        """Commit and tag a release (compose.yml, notes in release/<version>); the commit."""
        content: dict[str, str | bytes] = dict(files or {})
        if compose is not None:
            content["compose.yml"] = compose
        if notes is not None:
            content[f"release/{version}"] = notes
        commit = self.commit(f"chore: publish {version}", content)
        self.tag(version, annotated=annotated)
        return commit

    def tag(self, version: str, *, target: str = "HEAD", annotated: bool = True, force: bool = False) -> None:
        extra = ["--annotate", "--message", version] if annotated else []
        self.git("tag", *extra, *(["--force"] if force else []), version, target)
