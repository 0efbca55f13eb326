#!/bin/sh
# Fetches Debian 13's wireguard-go (0.0.20231211: the first with segmentation offload; `--version` says 0.0.20230223) for
# `cargo xtask bench tunnel`, unpacked into DIRECTORY/wireguard-go-0.0.20231211. Nothing of the system changes: apt gets package
# lists, a cache and a source of its own.
set -eu
directory=${1:?usage: fetch-wireguard-go.sh DIRECTORY}
place=$directory/wireguard-go-0.0.20231211
[ -x "$place/usr/bin/wireguard-go" ] && exit 0
own=$(mktemp -d)
trap 'rm -rf "$own"' EXIT
mkdir -p "$own/lists/partial" "$own/cache/archives/partial"
mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Origin: Debian' 2>/dev/null | grep -v security | head -n 1)
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${mirror:-http://deb.debian.org/debian} trixie main" > "$own/source.list"
cd "$own"
own_apt() {
    apt-get -qq -o Dir::Etc::sourcelist="$own/source.list" -o Dir::Etc::sourceparts=/nonexistent -o Dir::State::lists="$own/lists" \
        -o Dir::Cache="$own/cache" -o Acquire::Languages=none -o APT::Sandbox::User=root "$@"
}
own_apt update
own_apt download wireguard-go
mkdir -p "$directory"
dpkg-deb -x wireguard-go_*.deb "$own/unpacked"
rm -rf "$place"
mv "$own/unpacked" "$place"
echo "$place/usr/bin/wireguard-go"
