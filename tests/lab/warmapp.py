"""A tiny stateful web application of busybox: it migrates its data when it starts, as real ones do.

GET /health   {"status":"ok","version":V,"schema":S}; 503 and "down" where it is never healthy
GET /data     {"schema":S,"sha256":SUM,"notes":N}: SUM covers every file of the volume
GET /history  one line a migration
POST /notes   appends the body's first line to what users wrote

``bad`` makes a version that damages the data when it migrates it, and then

never-healthy  answers 503
crash          ends before it serves
crash-later    serves, and ends ``after`` whole seconds from its start, each time it is started
flapping       answers ``after`` times 200, then so many times 503, and so on: whoever asks slowly sees it too
sick-later     answers 200 for ``after`` whole seconds from its start, then 503

With ``linger`` any version goes on for so many seconds after SIGTERM, and writes its last words then.

An old version on newer data starts and says "ok", as Keycloak does: only ``schema`` gives it away.
"""

from __future__ import annotations

from typing import Literal

Bad = Literal["never-healthy", "crash", "crash-later", "flapping", "sick-later"]

_START = """\
#!/bin/sh
# PID 1: without a trap it would ignore SIGTERM and be killed only after the grace.
leave() {
  linger=$(cat /app/linger)
  if [ "$linger" != 0 ]; then sleep "$linger"; echo "last words of $version" >> /data/notes; sync; fi
  kill $child 2>/dev/null
  exit 0
}
trap leave TERM INT
version=$(cat /app/version)
bad=$(cat /app/bad)
mkdir -p /data
old=$(cat /data/schema 2>/dev/null || echo none)
# Higher only: an old version leaves newer data as it is.
newest=$(printf '%s\\n%s\\n' "$old" "$version" | sort -V | tail -n 1)
if [ "$old" = none ] || { [ "$old" != "$version" ] && [ "$newest" = "$version" ]; }; then
  echo "migrating from $old to $version"
  echo "$old -> $version" >> /data/history
  echo "$version" > /data/schema
  if [ -n "$bad" ]; then echo "damaged by $version" > /data/notes; fi
  sync
fi
sleep "$(cat /app/delay)" & child=$!; wait $child
if [ "$bad" = crash ]; then echo "cannot start" >&2; exit 1; fi
echo "serving $version"
date +%s > /tmp/started
nc -ll -p 80 -e /app/serve & child=$!
if [ "$bad" = crash-later ]; then
  sleep "$(cat /app/after)" & wait $!
  echo "cannot go on" >&2; exit 1
fi
wait $child
"""

_SERVE = """\
#!/bin/sh
read -r method path rest
length=0
while read -r name value; do
  value=${value%?}
  case "$name" in
    [Cc]ontent-[Ll]ength:) length=$value ;;
  esac
  [ "${#name}" -le 1 ] && break
done
answer() {
  printf 'HTTP/1.1 %s\\r\\nContent-Type: %s\\r\\nContent-Length: %s\\r\\nConnection: close\\r\\n\\r\\n%s' \\
    "$1" "$2" "${#3}" "$3"
}
schema=$(cat /data/schema 2>/dev/null)
sick() {
  since=$(( $(date +%s) - $(cat /tmp/started) )); after=$(cat /app/after)
  case "$(cat /app/bad)" in
    ""|crash-later) return 1 ;;
    flapping)
      asked=$(cat /tmp/asked 2>/dev/null || echo 0)
      echo $(( asked + 1 )) > /tmp/asked
      [ $(( asked / after % 2 )) = 1 ] ;;
    sick-later) [ "$since" -ge "$after" ] ;;
  esac
}
case "$method $path" in
  "GET /health")
    if sick; then
      answer "503 Service Unavailable" application/json \\
        "{\\"status\\":\\"down\\",\\"version\\":\\"$(cat /app/version)\\"}"
    else
      answer "200 OK" application/json \\
        "{\\"status\\":\\"ok\\",\\"version\\":\\"$(cat /app/version)\\",\\"schema\\":\\"$schema\\"}"
    fi ;;
  "GET /data")
    sum=$(cd /data && find . -type f | sort | xargs sha256sum | sha256sum | cut -d ' ' -f 1)
    notes=$(wc -l < /data/notes 2>/dev/null || echo 0)
    answer "200 OK" application/json \\
      "{\\"schema\\":\\"$schema\\",\\"sha256\\":\\"$sum\\",\\"notes\\":$((notes))}" ;;
  "GET /history") answer "200 OK" text/plain "$(cat /data/history)" ;;
  "POST /notes")
    [ "$length" -gt 0 ] && head -c "$length" >> /data/notes && echo >> /data/notes
    sync
    answer "200 OK" application/json '{"written":true}' ;;
  *) answer "404 Not Found" text/plain "no such page" ;;
esac
"""


def warm_files(
    version: str, *, bad: Bad | None = None, delay: float = 0, after: int = 0, linger: int = 0
) -> dict[str, tuple[bytes, int]]:
    """The files of the application's image. ``delay``: seconds from migration to serving."""
    return {
        "app/start": (_START.encode(), 0o755),
        "app/serve": (_SERVE.encode(), 0o755),
        "app/version": (version.encode(), 0o644),
        "app/bad": ((bad or "").encode(), 0o644),
        "app/delay": (str(delay).encode(), 0o644),
        "app/after": (str(after).encode(), 0o644),
        "app/linger": (str(linger).encode(), 0o644),
    }


def warm_compose(
    image: str,
    port: int | str,
    *,
    version: str | None = None,
    stack: str = "${STACK_NAME}",
    extra: str = "",
    network: Literal["bridge", "overlay"] = "bridge",
) -> str:
    """A compose file of one service ``app``: host port, volume ``data``, a version label where given.

    ``extra`` is appended as it is (more services or top-level keys). On the node's own ``bridge`` the
    engine stops and starts a task in half the time; an ``overlay`` network is the stack's own.
    """
    if network == "bridge":
        mode, internal = "", "{ external: true, name: bridge }"
    else:
        mode, internal = "\n      endpoint_mode: dnsrr", "{}"
    # docker makes a number of a variable's text, of a plain text it does not.
    shown = f'"{port}"' if isinstance(port, str) else port
    labels = f'\n      labels: ["coop-cloud.{stack}.version={version}"]' if version else ""
    return f"""\
version: "3.8"
services:
  app:
    image: "{image}"
    ports: [{{ target: 80, published: {shown}, protocol: tcp, mode: host }}]
    volumes: ["data:/data"]
    networks: [internal]
    stop_grace_period: 5s
    deploy:{mode}
      replicas: 1
      restart_policy: {{ condition: any, delay: 1s }}
      update_config: {{ order: stop-first }}{labels}
networks:
  internal: {internal}
volumes:
  data: {{}}
{extra}"""
