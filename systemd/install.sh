#!/bin/sh
# From a wheel to a running service:
#
#   make wheel                                           (as yourself, in the clone)
#   sh systemd/install.sh dist/forwarder-VERSION-py3-none-any.whl
#   "${EDITOR:-vi}" /etc/forwarder/forwarder.toml
#   systemctl enable --now forwarder
#
# Run as root, again for an upgrade (then: systemctl restart forwarder; no request is lost). Needs python3 >= 3.11 with
# venv. Dependencies come from requirements.lock beside this directory, by hash; pip's own variables (PIP_INDEX_URL,
# PIP_NO_INDEX, PIP_FIND_LINKS) say from where.
set -eu

wheel=${1:?usage: install.sh WHEEL}
here=$(cd "$(dirname "$0")" && pwd)
prefix=${PREFIX:-/opt/forwarder}
units=${UNITS:-/etc/systemd/system}
config=${CONFIG:-/etc/forwarder}
if [ -e "$prefix" ] && [ ! -L "$prefix" ]; then
    echo "$prefix is no link, as this script would leave it. Was forwarder installed by hand?" \
        "Move it away (mv $prefix $prefix-old) or name another place (PREFIX=/opt/forwarder-service)." >&2
    exit 1
fi

# Beside the old one; the link moves when all is there. To roll back: ln -sfn OLD "$prefix" and restart.
fresh=$prefix-$(date -u +%Y%m%d%H%M%S)
python3 -m venv "$fresh"
"$fresh/bin/pip" install --quiet --require-hashes -r "$here/../requirements.lock"
"$fresh/bin/pip" install --quiet --no-deps --no-index "$wheel"
ln -s "$fresh" "$fresh.link"
mv -T "$fresh.link" "$prefix"

install -d -m 0755 "$config" "$units"
if [ ! -e "$config/forwarder.toml" ]; then install -m 0644 "$here/forwarder.toml" "$config/forwarder.toml"; fi
for unit in "$here"/forwarder.service "$here"/*.socket; do
    sed "s|/opt/forwarder|$prefix|g; s|/etc/forwarder|$config|g" "$unit" > "$units/$(basename "$unit")"
done
if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
"$prefix/bin/forwarder" --version
