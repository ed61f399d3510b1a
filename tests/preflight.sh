#!/bin/sh
# What this machine must have; says what is missing, with the one command that installs it.
#
#   sh tests/preflight.sh [PROGRAM...]             prints the Python to use; each PROGRAM must be on PATH
#   sh tests/preflight.sh --node                   exits 0 when node (20 or newer) and npm are on PATH
#   sh tests/preflight.sh --room GIB               so much room is free here and for temporary files
#   sh tests/preflight.sh --debian PROGRAM=PACKAGE...  installs what is missing (root), or says how
#
# PYTHON=... in the environment chooses the Python. Only `--debian` changes the machine.
set -u

fits() { # fits PYTHON CODE: a name on PATH is not enough, since a pyenv shim may only fail
    "$1" -c "$2" </dev/null >/dev/null 2>&1
}
VERSION='import sys; sys.exit(not ((3, 11) <= sys.version_info < (3, 15) and sys.implementation.name == "cpython"))'
VENV='import ensurepip, venv'

advise() { # advise REASON PACKAGE...: the one command, as this machine would take it
    reason=$1
    shift
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "missing: $reason. Install with your package manager, then run this again." >&2
    elif [ "$(id -u)" -eq 0 ]; then
        echo "missing: $reason. Run: apt-get update && apt-get install -y $*" >&2
    else
        echo "missing: $reason. Run: sudo apt-get update && sudo apt-get install -y $*" >&2
    fi
    exit 1
}

has_node() {
    command -v npm >/dev/null 2>&1 || return 1
    major=$(node --version 2>/dev/null </dev/null | sed -n 's/^v\([0-9][0-9]*\)\..*/\1/p')
    [ "${major:-0}" -ge 20 ]
}

install_debian() {
    packages=
    for pair in "$@"; do
        command -v "${pair%%=*}" >/dev/null 2>&1 || packages="$packages ${pair#*=}"
    done
    [ -n "$packages" ] || return 0
    # shellcheck disable=SC2086  # a list of words
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "installing:$packages"
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq && apt-get install -y -qq --no-install-recommends $packages </dev/null
    else
        advise "${packages# }" $packages
    fi
}

has_room() { # has_room GIB: nodes of tests refuse appends on a disk that is nearly full, and say so only in their answers
    for place in . "${TMPDIR:-/tmp}"; do
        free=$(($(df -Pk "$place" | awk 'NR == 2 { print $4 }') / 1024 / 1024))
        [ "$free" -ge "$1" ] && continue
        echo "the tests need $1 GiB of free disk, and $(cd "$place" && pwd) has $free: make room, then run this again" >&2
        exit 1
    done
}

find_python() {
    missing="" packages="" python="" almost=""
    for candidate in ${PYTHON:-python3.11 python3.12 python3.13 python3.14 python3}; do
        fits "$candidate" "$VERSION" || continue
        almost=$candidate
        if fits "$candidate" "$VENV"; then
            python=$(command -v "$candidate")
            break
        fi
    done
    if [ -z "$python" ] && [ -n "${PYTHON:-}" ] && [ -z "$almost" ]; then
        echo "PYTHON=$PYTHON is no CPython 3.11 to 3.14; leave it out, or name another" >&2
        exit 1
    elif [ -z "$python" ] && [ -n "$almost" ]; then
        missing=", venv and ensurepip for $almost"
        packages=$("$almost" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    elif [ -z "$python" ]; then
        missing=", CPython 3.11 to 3.14 with venv"
        packages="python3 python3-venv"
    fi
    for program in "$@"; do
        command -v "$program" >/dev/null 2>&1 || missing="$missing, $program" packages="$packages $program"
    done
    # shellcheck disable=SC2086  # a list of words
    [ -z "$missing" ] || advise "${missing#, }" $packages
    echo "$python"
}

case ${1:-} in
    --node) has_node ;;
    --room) has_room "$2" ;;
    --debian) shift && install_debian "$@" ;;
    *) find_python "$@" ;;
esac
