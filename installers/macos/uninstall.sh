#!/bin/sh
# Removes Hamn from this Mac and opens the network: sudo "/Library/Application Support/Hamn/uninstall.sh" [--purge]
# Settings and secrets stay unless --purge is given. Exit codes: 0 removed, 1 not root, 2 wrong words, 3 removed but the network could not be
# opened (restart the Mac: the rules end with it).
set -u
PATH=/usr/bin:/bin:/usr/sbin:/sbin
export PATH

home="/Library/Application Support/Hamn"
plist=/Library/LaunchDaemons/org.hamn.helper.plist
label=system/org.hamn.helper
purge=no
case "$#:${1:-}" in
0:) ;;
1:--purge) purge=yes ;;
*)
    echo "usage: uninstall.sh [--purge]" >&2
    exit 2
    ;;
esac
if [ "$(id -u)" -ne 0 ]; then
    echo "Only root can remove Hamn: sudo \"$home/uninstall.sh\"" >&2
    exit 1
fi

launchctl bootout "$label" 2>/dev/null || true
tries=0
while launchctl print "$label" >/dev/null 2>&1 && [ "$tries" -lt 30 ]; do
    tries=$((tries + 1))
    sleep 1
done

code=0
if [ -x "$home/bin/hamn-helper" ]; then
    "$home/bin/hamn-helper" --restore-network || code=3
fi

rm -f "$plist" /private/etc/paths.d/org.hamn
rm -rf /var/run/hamn "$home/bin" /Applications/Hamn.app
rm -f "$home/README.md" "$home/LICENSE.txt" "$home/version"
if [ "$purge" = yes ]; then
    rm -rf "$home"
else
    rm -f "$home/uninstall.sh"
    rmdir "$home/state" "$home/etc/policy.d" "$home/etc" "$home" 2>/dev/null || true
fi
pkgutil --forget org.hamn.client >/dev/null 2>&1 || true
if [ "$code" -ne 0 ]; then
    echo "Hamn is removed, but its rules could not be: restart this Mac to get the network back." >&2
fi
exit "$code"
