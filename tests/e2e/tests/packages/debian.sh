# The debs in a fresh Debian with no network and no running systemd. Arguments: layers, archives, first and second version.
. "${0%/*}/root.sh"
offer "$3" 1
offer "$4" 99
mount --bind "$2/lists" "$root/var/lib/apt/lists"
mount --bind "$2/debs" "$root/var/cache/apt/archives"
echo 'APT::Sandbox::User "root"; Dpkg::Options { "--force-unsafe-io"; }; Binary::apt-get::APT::Keep-Downloaded-Packages "true";' \
    >"$root/etc/apt/apt.conf.d/91test"
inventory >/mnt/before

# The helper alone, on a computer without graphics.
quiet in_root sh -c 'dpkg -i /debs/1/hamn_*.deb'
check_files
enabled && lockdown_enabled || fail "the services do not start at boot"
[ -z "$(in_root dpkg -V hamn)" ] || fail "dpkg -V: $(in_root dpkg -V hamn)"
quiet in_root sh -c 'dpkg -i /debs/1/hamn_*.deb && dpkg-reconfigure hamn && dpkg --configure -a'
grep -c '^hamn:' "$root/etc/group" | grep -qx 1 || fail "the group was made twice"

# An upgrade keeps what the administrator decided and wrote.
quiet in_root systemctl disable hamn-lockdown.service
echo '{}' >"$root/etc/hamn/policy.d/50-local.json"
quiet in_root sh -c 'dpkg -i /debs/99/hamn_*.deb'
enabled || fail "the upgrade disabled the helper"
lockdown_enabled && fail "the upgrade enabled what was disabled"
[ "$(cat "$root/etc/hamn/policy.d/50-local.json")" = '{}' ] || fail "the upgrade changed a policy"

# Removing keeps the administrator's files and the state; installing again keeps the decision.
mkdir -m 700 "$root/var/lib/hamn"
quiet in_root dpkg -r hamn
[ -z "$(ls -A "$root/var/lib/hamn")" ] || fail "removing touched the network from a chroot"
[ ! -e "$root/usr/lib/hamn" ] && [ ! -e "$root/usr/bin/hamn" ] || fail "programs are left"
enabled && fail "a link to a unit that is gone is left"
[ -f "$root/etc/hamn/policy.d/50-local.json" ] && [ -d "$root/var/lib/hamn" ] || fail "removing is not purging"
quiet in_root sh -c 'dpkg -i /debs/1/hamn_*.deb'
enabled || fail "installing again did not enable the helper"
lockdown_enabled && fail "installing again enabled what was disabled"
quiet in_root dpkg -P hamn
inventory >/mnt/after
diff /mnt/before /mnt/after >&2 || fail "purge left or took something"

# The window, with what it needs.
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
apt="apt-get -q -y --no-install-recommends"
in_root sh -c "$apt install /debs/99/hamn_*.deb /debs/1/hamn-gui_*.deb" >/mnt/said 2>&1 && fail "a mixture was installed"
grep -q 'Depends: hamn (= 1.0.0-1)' /mnt/said || fail "another reason: $(cat /mnt/said)"
quiet in_root sh -c "$apt install /debs/1/hamn_*.deb /debs/1/hamn-gui_*.deb"
check_files
[ -z "$(in_root dpkg -V hamn hamn-gui)" ] || fail "dpkg -V: $(in_root dpkg -V hamn hamn-gui)"
in_root ldd /usr/bin/hamn-gui | grep -q 'not found' && fail "libraries are missing: $(in_root ldd /usr/bin/hamn-gui)"
for library in libwebkit2gtk-4.1.so.0 libgtk-3.so.0 libayatana-appindicator3.so.1; do
    in_root ldconfig -p | grep -q "$library" || fail "$library is not installed"
done
grep -q '^Exec=hamn-gui %u$' "$root/usr/share/applications/hamn-gui.desktop" || fail "the entry of the desktop's menu"
for size in 16x16 24x24 32x32 48x48 64x64 128x128 256x256 512x512; do
    [ -s "$root/usr/share/icons/hicolor/$size/apps/hamn-gui.png" ] || fail "there is no icon of $size"
done
in_root timeout 20 hamn-gui --version </dev/null | grep -q '[0-9]' || fail "hamn-gui --version"
in_root sh -c "$apt --no-remove install /debs/99/hamn_*.deb" >/mnt/said 2>&1 && fail "the helper was upgraded without the window"
quiet in_root sh -c "$apt install /debs/99/hamn_*.deb /debs/99/hamn-gui_*.deb"
[ "$(in_root dpkg-query -W -f '${Version} ' hamn hamn-gui)" = "99.0.0-1 99.0.0-1 " ] || fail "versions after the upgrade"
quiet in_root sh -c "$apt purge hamn"
[ -z "$(in_root dpkg-query -W -f '${Package} ' 'hamn*' 2>/dev/null)" ] || fail "packages are left"
# Not the town of Mariehamn.
left=$(cd "$root" && find . -xdev \( -path ./proc -o -path ./debs -o -path ./usr/share/zoneinfo -o -path ./var/lib/apt/lists \) -prune -o -name '*hamn*' -print)
[ -z "$left" ] || fail "files are left: $left"
echo "everything holds"
