#!/bin/bash
# setup.sh VENV — install the system packages that the project needs, and the Python packages of input/ and analysis/ in
# VENV. On Debian and its relatives missing packages are installed, elsewhere they are listed. Silent when nothing is
# missing.
set -u
export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive
cd "$(dirname "$0")/.." || exit 1
venv=${1:-.venv}
log=$(mktemp "${TMPDIR:-/tmp}/mdlm-setup-XXXXXX")
trap 'rm -f "$log"' EXIT

needed="gcc libc6-dev make pkg-config git openmpi-bin libopenmpi-dev libhdf5-openmpi-dev libconfig-dev libdnnl-dev
  libxxhash-dev libcmocka-dev valgrind hdf5-tools bible-kjv bible-kjv-text python3-venv"
# without them the Slurm test, a lint test or the report in a browser is skipped
optional="slurm-wlm munge shellcheck clang-format chromium-headless-shell"

say() { echo "setup: $*"; }
die() { # MESSAGE: print it after the end of the log and exit
  [ -s "$log" ] && tail -n 15 "$log" | sed 's/^/    | /' >&2
  echo "setup: $*" >&2
  exit 1
}

# ---- Debian packages

not_installed() { # PACKAGE…
  dpkg-query -W -f '${binary:Package} ${db:Status-Status}\n' "$@" 2> /dev/null | awk -v want="$*" '
    $2 == "installed" { sub(/:.*/, "", $1); have[$1] = 1 }
    END { n = split(want, name, " "); for (i = 1; i <= n; i++) if (!(name[i] in have)) printf "%s ", name[i] }'
}

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

install() { as_root apt-get install -y --no-install-recommends "$@" >> "$log" 2>&1 < /dev/null; }

setup_debian() {
  local missing extra tried=$venv/.optional-tried
  # shellcheck disable=SC2086
  missing=$(not_installed $needed) extra=$(not_installed $optional)
  [ -n "$extra" ] && [ "$(cat "$tried" 2> /dev/null)" = "$extra" ] && extra="" # could not be installed before
  [ -z "$missing$extra" ] && return
  if [ "$(id -u)" != 0 ] && ! command -v sudo > /dev/null; then
    [ -z "$missing" ] && return
    die "missing packages and no sudo; as root: apt-get install $missing"
  fi
  say "installing $missing$extra"
  as_root apt-get update >> "$log" 2>&1 || say "warning: apt-get update failed; using the old package lists"
  # shellcheck disable=SC2086
  [ -z "$missing" ] || install $missing || die "apt-get could not install: $missing"
  for extra in $extra; do install "$extra" || refused+="$extra "; done # one that a release lacks stops no other
  [ -z "$refused" ] || say "warning: could not install ${refused% }; some tests will be skipped"
}

# ---- other systems

has_header() { # HEADER PKG-CONFIG-MODULE
  local flags
  flags=$(pkg-config --cflags "$2" 2> /dev/null)
  # shellcheck disable=SC2086
  echo "#include <$1>" | mpicc $flags -fsyntax-only -x c - 2> /dev/null
}

check_other() {
  local missing="" t
  for t in gcc make pkg-config git mpicc mpirun python3; do command -v $t > /dev/null || missing+=" $t"; done
  if command -v mpicc > /dev/null; then
    has_header hdf5.h hdf5-openmpi || has_header hdf5.h hdf5 || missing+=" hdf5.h(parallel-HDF5)"
    has_header libconfig.h libconfig || missing+=" libconfig.h"
    has_header oneapi/dnnl/dnnl.h dnnl || missing+=" oneapi/dnnl/dnnl.h(oneDNN)"
    has_header xxhash.h libxxhash || missing+=" xxhash.h"
    { echo "#include <stdarg.h>"; echo "#include <stddef.h>"; echo "#include <setjmp.h>"; echo "#include <stdint.h>"
      echo "#include <cmocka.h>"; } | mpicc -fsyntax-only -x c - 2> /dev/null || missing+=" cmocka.h"
  fi
  [ -z "$missing" ] || die "not a Debian system; please install:$missing"
}

# ---- Python

find_python() { # /usr/bin first: another python3 in PATH may lack venv
  local p
  for p in /usr/bin/python3 python3; do
    "$p" -c 'import venv, ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null && echo "$p" && return
  done
  return 1
}

setup_python() {
  local python stamp=$venv/.installed sum
  # editable installs point to this folder, so its name is part of the stamp
  sum=$({ pwd; cat input/pyproject.toml analysis/pyproject.toml; } | sha256sum)
  [ -x "$venv/bin/mdlm-prepare" ] && [ "$(cat "$stamp" 2> /dev/null)" = "$sum" ] && return
  python=$(find_python) || die "no Python of version 3.11 or later with the modules venv and ensurepip"
  say "Python environment in $venv"
  if ! "$venv/bin/python" -m pip --version > /dev/null 2>&1; then
    "$python" -m venv --clear "$venv" >> "$log" 2>&1 || die "$python -m venv $venv failed"
  fi
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input -e 'input[check]' -e analysis \
    >> "$log" 2>&1 || die "pip could not install the packages in input/ and analysis/"
  echo "$sum" > "$stamp"
}

refused=""
if command -v apt-get > /dev/null && command -v dpkg-query > /dev/null; then setup_debian; else check_other; fi
setup_python
[ -z "$refused" ] || echo "$refused" > "$venv/.optional-tried"
