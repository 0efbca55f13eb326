#!/bin/sh
# macOS, as root: installs the daemon that DIR has, locks the network down, and tries to get out; kills the daemon and tries again; opens the
# network and gets out. lockdown.sh DIR. Takes the network away from this machine for less than a minute.
set -eu
programs=$1
home="/Library/Application Support/Hamn"
plist=/Library/LaunchDaemons/org.hamn.helper.plist
hamn="$home/bin/hamn"

cleanup() {
    "$hamn" restore-network || true
    launchctl bootout system/org.hamn.helper 2>/dev/null || true
    pfctl -a org.hamn -F all 2>/dev/null || true
}
fail() {
    echo "FAIL: $1" >&2
    exit 1
}
# A name and two addresses, over TCP and UDP, without a proxy.
gets_out() {
    curl --noproxy '*' --silent --max-time 2 --output /dev/null https://1.1.1.1/ \
        || curl --noproxy '*' --silent --max-time 2 --output /dev/null https://github.com/ \
        || dig +time=1 +tries=1 +short @8.8.8.8 example.org A | grep -q .
}
wait_for_helper() {
    tries=0
    until "$hamn" status --json > /dev/null 2>&1; do
        tries=$((tries + 1))
        [ "$tries" -lt 100 ] || fail "the helper does not answer"
        sleep 0.2
    done
}

gets_out || fail "the negative control: this machine has no network to begin with"
install -d -o root -g wheel -m 755 "$home" "$home/bin" "$home/etc"
install -o root -g wheel -m 755 "$programs/hamn" "$programs/hamn-helper" "$home/bin/"
install -o root -g wheel -m 644 "$(dirname "$0")/../../installers/macos/org.hamn.helper.plist" "$plist"
trap cleanup EXIT
launchctl bootstrap system "$plist"
wait_for_helper
"$hamn" settings set kill-switch always
"$hamn" verify
gets_out && fail "LEAK: lockdown lets something out"
# The rules are the system's: they hold while nobody watches them, and the daemon that comes back finds them.
kill -9 "$(launchctl print system/org.hamn.helper | sed -n 's/^[[:space:]]*pid = //p')"
gets_out && fail "LEAK: something got out after the daemon was killed"
wait_for_helper
"$hamn" verify
"$hamn" settings set kill-switch off
gets_out || fail "the network is not open again"
echo "lockdown held, also over kill -9, and the network is open again"
