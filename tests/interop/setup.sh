#!/bin/sh
# Installs the other implementations that the interop tests drive, beside this file:
# libtorrent into .venv, bittorrent-dht into node_modules. Does nothing if they are there already.
# PYTHON names another interpreter; one that libtorrent has a wheel for (3.11 is tested) is needed.
set -eu
cd "$(dirname "$0")"

if ! .venv/bin/python -c 'import libtorrent; assert libtorrent.__version__.startswith("2.1.1")' 2>/dev/null; then
    for python in ${PYTHON:-} python3.11 python3; do
        if "$python" -m venv --clear .venv 2>/dev/null; then break; fi
    done
    if [ ! -x .venv/bin/python ]; then
        echo "setup.sh: no python3 with the venv module found; install it or set PYTHON" >&2
        exit 1
    fi
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
fi

if ! command -v npm >/dev/null; then
    echo "setup.sh: npm not found; install Node.js 18 or newer" >&2
    exit 1
fi
# npm leaves this file behind when it has finished.
if [ ! node_modules/.package-lock.json -nt package-lock.json ]; then
    npm ci --no-audit --no-fund --loglevel=error
fi
echo "interop peers are ready"
