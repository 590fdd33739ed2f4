"""An application that writes to an SQLite database without pause, and an observer that knows if it is right.

Two processes move money between a hundred accounts, one transaction after another, and are killed in the
middle of one when the service stops. Whatever was committed must be there, and it must add up:

- ``PRAGMA integrity_check`` says ok;
- all balances add up to nothing, and so do all entries;
- each account's balance is the sum of its entries.

Its image is busybox and the machine's own ``sqlite3`` with the libraries that it needs.
"""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from tests.lab import Lab
from tests.swarm.world import World

#: How SQLite makes a transaction whole: with a log of what comes, or with a copy of what was.
Mode: TypeAlias = Literal["wal", "delete"]

DATABASE = "app.db"
#: Random bytes beside the database: so that a copy takes long enough to be looked at.
BALLAST = 30_000_000

_START = """\
#!/bin/sh
version=$(cat /app/version)
db=/data/app.db
# No time to finish anything: the hardest stop that a database is made for.
trap 'kill -9 -1; exit 0' TERM INT
[ -e /data/ballast ] || head -c $(cat /app/ballast) /dev/urandom > /data/ballast
sqlite3 $db < /app/migrate.sql > /dev/null || exit 1
if [ -n "$(cat /app/bad)" ]; then
  sqlite3 $db < /app/damage.sql
  printf 'not a database' | dd of=$db bs=1 seek=20000 conv=notrunc 2> /dev/null
else
  for writer in 1 2; do
    { cat /app/begin.sql; while :; do cat /app/move.sql; done; } | sqlite3 $db > /dev/null &
  done
fi
nc -ll -p 80 -e /app/serve & child=$!
wait $child
"""

_SERVE = """\
#!/bin/sh
while read -r name rest; do [ "${#name}" -le 1 ] && break; done
code="200 OK" status=ok
[ -n "$(cat /app/bad)" ] && code="503 Service Unavailable" status=down
body="{\\"status\\":\\"$status\\",\\"version\\":\\"$(cat /app/version)\\"}"
printf 'HTTP/1.1 %s\\r\\nContent-Type: application/json\\r\\n' "$code"
printf 'Content-Length: %s\\r\\nConnection: close\\r\\n\\r\\n%s' "${#body}" "$body"
"""

# Every page is rewritten by a migration, as real ones do.
_MIGRATE = """\
.timeout 20000
.bail on
PRAGMA journal_mode={mode};
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS schema(version INTEGER);
INSERT INTO schema SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM schema);
CREATE TABLE IF NOT EXISTS account(id INTEGER PRIMARY KEY, balance INTEGER NOT NULL);
INSERT OR IGNORE INTO account
  WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100) SELECT i, 0 FROM n;
CREATE TABLE IF NOT EXISTS entry(id INTEGER PRIMARY KEY AUTOINCREMENT, account INTEGER NOT NULL,
  amount INTEGER NOT NULL, writer TEXT NOT NULL, filler BLOB);
CREATE INDEX IF NOT EXISTS entry_account ON entry(account, amount);
UPDATE entry SET filler = randomblob(200) WHERE (SELECT version FROM schema) < {schema};
UPDATE schema SET version = {schema};
COMMIT;
"""

_DAMAGE = """\
.timeout 20000
UPDATE account SET balance = balance + 7 WHERE id % 3 = 0;
DELETE FROM entry WHERE id % 5 = 0;
"""

_BEGIN = """\
.timeout 20000
.bail on
PRAGMA wal_autocheckpoint=40;
CREATE TEMP TABLE pick(a, b, x);
"""

_MOVE = """\
BEGIN IMMEDIATE;
DELETE FROM pick;
INSERT INTO pick SELECT abs(random() % 100) + 1, abs(random() % 100) + 1, abs(random() % 1000);
UPDATE account SET balance = balance - (SELECT x FROM pick) WHERE id = (SELECT a FROM pick);
INSERT INTO entry(account, amount, writer, filler) SELECT a, -x, '{version}', randomblob(200) FROM pick;
UPDATE account SET balance = balance + (SELECT x FROM pick) WHERE id = (SELECT b FROM pick);
INSERT INTO entry(account, amount, writer, filler) SELECT b, x, '{version}', randomblob(200) FROM pick;
COMMIT;
"""


def ledger(
    lab: Lab, version: str, *, schema: int, mode: Mode, bad: bool = False, ballast: int = BALLAST
) -> str:
    """The image of one version, in the lab's registry. A ``bad`` one ruins the data and is never healthy."""
    files: dict[str, bytes | str] = {
        "app/start": _START,
        "app/serve": _SERVE,
        "app/version": version,
        "app/bad": "yes" if bad else "",
        "app/ballast": str(ballast),
        "app/migrate.sql": _MIGRATE.format(mode=mode, schema=schema),
        "app/damage.sql": _DAMAGE,
        "app/begin.sql": _BEGIN,
        "app/move.sql": _MOVE.format(version=version) * 20,
        **_sqlite(),
    }
    return lab.image("ledger", version, files, ["/app/start"])


def _sqlite() -> dict[str, bytes]:
    program = shutil.which("sqlite3")
    assert program, "apt-get install sqlite3"
    told = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
    libraries = [word for word in told.split() if word.startswith("/")]
    return {"bin/sqlite3": Path(program).read_bytes()} | {
        path.lstrip("/"): Path(path).read_bytes() for path in libraries
    }


@dataclass(frozen=True, slots=True)
class Books:
    """What is in a database that is whole: ``rows`` (id, account, amount, writer) in the order they came."""

    schema: int
    rows: tuple[tuple[int, int, int, str], ...]

    @property
    def writers(self) -> set[str]:
        return {writer for *_, writer in self.rows}


class WrongError(Exception):
    """The database is not whole, or its sums are wrong."""


def audit(folder: Path, *, live: bool = False) -> Books:
    """Look into the database in a volume (``live``: while it is written to). Raises WrongError.

    Unless it is live, SQLite first does what it does after a crash, in the folder itself.
    """
    mode = "ro" if live else "rw"
    try:
        with closing(
            sqlite3.connect(
                f"file:{folder / DATABASE}?mode={mode}", uri=True, timeout=60, isolation_level=None
            )
        ) as books:
            books.execute("BEGIN")
            if (said := books.execute("PRAGMA integrity_check").fetchall()) != [("ok",)]:
                raise WrongError(f"integrity_check: {said[:3]}")
            for what in ("balance) FROM account", "amount) FROM entry"):
                (total,) = books.execute(f"SELECT total({what}").fetchone()
                if total:
                    raise WrongError(f"sum({what} is {total}")
            wrong = books.execute(
                "SELECT id, balance FROM account a"
                " WHERE balance <> (SELECT total(amount) FROM entry WHERE account = a.id)"
            ).fetchall()
            if wrong:
                raise WrongError(f"{len(wrong)} balances are not the sums of their entries")
            rows = books.execute("SELECT id, account, amount, writer FROM entry ORDER BY id").fetchall()
            (schema,) = books.execute("SELECT version FROM schema").fetchone()
            books.execute("COMMIT")
    except sqlite3.DatabaseError as error:
        raise WrongError(str(error)) from error
    return Books(schema, tuple(rows))


def publish_ledger(world: World, version: str, mode: Mode, *, schema: int, bad: bool = False) -> None:
    """Publish a version of it as the release ``version+version``."""
    image = ledger(world.lab, f"{world.stack}-{version}", schema=schema, mode=mode, bad=bad)
    world.recipe.publish(f"{version}+{version}", compose=world.compose(image))


def writes_on(world: World) -> Books:
    """Wait until it has written some more; its books."""
    before = audit(world.volume, live=True)
    now: list[Books] = []

    def more() -> bool:
        now.append(audit(world.volume, live=True))
        return len(now[-1].rows) >= len(before.rows) + 20

    world.wait(more, "more transactions")
    return now[-1]
