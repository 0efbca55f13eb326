# The rpms, installed by rpm into a root of their own, with their scripts. Arguments: layers, first and second version.
# The root is a Debian's, whose dpkg knows nothing of rpm's requirements: they are checked where they are about our own packages.
. "${0%/*}/root.sh"
rpm() {
    /usr/bin/rpm --root "$root" --force-debian "$@"
}
quiet /usr/bin/rpmdb --root "$root" --initdb
inventory >/mnt/before
quiet rpm -i --nodeps "$2"/hamn-1.0.0-*.rpm
check_files
enabled && lockdown_enabled || fail "the services do not start at boot"
[ -z "$(rpm -V --nodeps hamn)" ] || fail "rpm -V: $(rpm -V --nodeps hamn)"
quiet in_root systemctl disable hamn-lockdown.service

rpm -i --test "$3"/hamn-gui-99.0.0-*.rpm >/mnt/said 2>&1 && fail "the window was installed with another helper"
grep -q 'hamn = 99.0.0-1 is needed' /mnt/said || fail "another reason: $(cat /mnt/said)"
rpm -i --test "$2"/hamn-gui-1.0.0-*.rpm >/mnt/said 2>&1 || true
grep -q 'hamn = ' /mnt/said && fail "the helper of the same version is not good enough: $(cat /mnt/said)"
quiet rpm -i --nodeps "$2"/hamn-gui-1.0.0-*.rpm
[ -z "$(rpm -V --nodeps hamn-gui)" ] || fail "rpm -V: $(rpm -V --nodeps hamn-gui)"

echo '{}' >"$root/etc/hamn/policy.d/50-local.json"
quiet rpm -U --nodeps "$3"/hamn-99.0.0-*.rpm "$3"/hamn-gui-99.0.0-*.rpm
[ "$(rpm -q hamn hamn-gui | tr '\n' ' ')" = "hamn-99.0.0-1.$(uname -m) hamn-gui-99.0.0-1.$(uname -m) " ] || fail "versions after the upgrade"
enabled || fail "the upgrade disabled the helper"
lockdown_enabled && fail "the upgrade enabled what was disabled"
[ "$(cat "$root/etc/hamn/policy.d/50-local.json")" = '{}' ] || fail "the upgrade changed a policy"
rpm -e hamn >/mnt/said 2>&1 && fail "the helper was removed below the window"
quiet rpm -e hamn hamn-gui
[ -f "$root/etc/hamn/policy.d/50-local.json" ] || fail "a policy is gone"
# What the administrator removes by hand, as the handbook says.
rm -rf "$root/etc/hamn"
in_root groupdel hamn
inventory >/mnt/after
# Directories of other packages that this Debian does not have are made, and nobody's.
grep -v '^d 755 root:root ./usr/share/' /mnt/after >/mnt/after-ours
grep -v '^d 755 root:root ./usr/share/' /mnt/before | diff - /mnt/after-ours >&2 || fail "removing left or took something"
echo "everything holds"
