"""The README.txt in every snapshot: what a person needs when warmd is not there."""

from __future__ import annotations

import json
import shlex

from warmd.adapters.archive.children import TAR_KEEP
from warmd.adapters.archive.manifest import BUNDLE, SUMS, Manifest, Part
from warmd.core.model import Bundle


def unpack_line(part: Part, into: str) -> str:
    """The one shell line that unpacks a volume's archive, run inside the snapshot's folder."""
    keep = " ".join(shlex.quote(option) for option in TAR_KEEP)
    return (
        f"zstd -dc {shlex.quote(part.archive)} | LC_ALL=C tar --extract --same-owner "
        f"--preserve-permissions {keep} --directory={shlex.quote(into)} --file=-"
    )


def readme(manifest: Manifest, bundle: bytes) -> str:
    """The text of README.txt. ``bundle`` is the content of bundle.json."""
    volumes = "\n".join(
        f"   {part.volume}\n"
        f"      data: {part.mountpoint}\n"
        f"      copy: {part.archive} ({part.files} entries, {part.data_bytes} bytes of files)\n"
        for part in manifest.volumes
    )
    commands = "\n".join(
        f"   docker volume create {shlex.quote(part.volume)}\n"
        f"   mv {shlex.quote(part.mountpoint)} {shlex.quote(f'{part.mountpoint}.replaced')}\n"
        f"   mkdir {shlex.quote(part.mountpoint)}\n"
        f"   {unpack_line(part, part.mountpoint)}\n"
        for part in manifest.volumes
    )
    images = "".join(f"   {name}: {image}\n" for name, image in sorted(_images(bundle).items()))
    return f"""\
A snapshot of the data of {manifest.service!r} (docker stack {manifest.stack!r}), made by warmd.

   version  {manifest.version or "unknown"}
   made at  {manifest.at.isoformat()}
   run      {manifest.run}
   node     {manifest.node}

Volumes:
{volumes or "   none"}
To put it back by hand, as root, in this folder, on that node, with GNU tar and zstd:

1. Is the copy whole? Each line has to say OK.
   sha256sum --check {SUMS}

2. Stop what uses the volumes, and wait until `docker ps --all` shows no container of the stack.
   docker stack rm {shlex.quote(manifest.stack)}

3. For each volume: make it if it is gone, keep what is there now, unpack.
{commands}
   Should `mv` say "Device or resource busy", the folder is a mount point: move what is in it instead.

4. Deploy the version above again, with `docker stack deploy` from its own files, or from {BUNDLE}, which
   has the specs as Docker's Engine API takes them (networks, configs, secrets without their data,
   services). The images were:
{images or "   not recorded" + chr(10)}
5. When the service works, remove the folders that end in ".replaced".
"""


def _images(bundle: bytes) -> dict[str, str]:
    # Other programs may keep anything in the bundle: then there is nothing to say about images.
    try:
        return Bundle.from_json(json.loads(bundle)).images
    except (KeyError, TypeError, ValueError):
        return {}
