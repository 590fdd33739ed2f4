# Sourced by the other scripts: what they need from Debian, and .venv at the project's root.
# shellcheck shell=bash

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# A user's PATH may lack the sbin folders, where dockerd and ip can be.
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
VENV="$PWD/.venv"
# Stories start warmd hundreds of times: without compiled modules each start costs a second more.
unset PYTHONDONTWRITEBYTECODE

say() { printf '%s\n' "$*" >&2; }

die() {
  say "$(basename "$0"): $*"
  exit 1
}

_have() {
  case "$1" in
    python-venv) python3 -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ;;
    # The plain busybox needs libraries that an image of it alone does not have.
    busybox-static) [ -x /bin/busybox ] && ! head -c 4096 /bin/busybox | grep -q ld-linux ;;
    *) command -v "$1" >/dev/null ;;
  esac
}

# need COMMAND:PACKAGE[,PACKAGE]...  installs what is missing with apt-get; of several packages the first that exists
need() {
  local pair missing=()
  for pair in "$@"; do
    _have "${pair%%:*}" || missing+=("$pair")
  done
  [ ${#missing[@]} -eq 0 ] && return
  if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    die "missing: ${missing[*]%%:*}. Install them, or run this as root on Debian."
  fi
  _install "${missing[@]}"
  for pair in "${missing[@]}"; do
    _have "${pair%%:*}" || die "${pair#*:} is installed, but ${pair%%:*} is still missing"
  done
}

_install() (
  export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
  # Packages start their services (docker, a registry on port 5000). These scripts run their own, so for the time of the
  # installation nothing is started, unless the machine has a policy already.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e $policy ]; then
    trap 'rm -f $policy' EXIT
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod 755 $policy
  fi
  say "installing from Debian: ${*#*:}"
  log=$(mktemp)
  packages=()
  apt-get -qq update >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
  for pair in "$@"; do
    IFS=, read -ra choices <<<"${pair#*:}"
    for package in "${choices[@]}"; do
      if apt-cache show "$package" >/dev/null 2>&1; then
        packages+=("$package")
        break
      fi
    done
  done
  apt-get -qq install -y --no-install-recommends "${packages[@]}" >"$log" 2>&1 </dev/null || { cat "$log" >&2; exit 1; }
  rm -f "$log"
)

# What tests/lab runs on, and what warmd itself calls.
need_lab() {
  [ "$(id -u)" -eq 0 ] || die "this starts its own dockerd: run it as root"
  need_tools
  need dockerd:docker.io docker:docker-cli,docker.io docker-registry:docker-registry containerd:containerd \
    iptables:iptables ip:iproute2 busybox-static:busybox-static nsenter:util-linux sqlite3:sqlite3
}

need_tools() {
  need git:git tar:tar zstd:zstd setfacl:acl setfattr:attr strace:strace
}

# Make or reuse .venv; again only when what it is made from has changed.
need_venv() {
  need python-venv:python3-venv
  exec {lock}<pyproject.toml # several scripts may start at once
  flock "$lock"
  local want stamp="$VENV/.made-from"
  want=$(cat requirements.lock pyproject.toml <(pwd) | sha256sum)
  if ! "$VENV/bin/python" -c '' 2>/dev/null; then
    say "making .venv"
    rm -rf "$VENV"
    python3 -m venv "$VENV"
  fi
  if [ "$(cat "$stamp" 2>/dev/null)" != "$want" ]; then
    say "installing requirements.lock into .venv"
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
    printf '%s\n' "$want" >"$stamp"
  fi
  exec {lock}>&-
}
