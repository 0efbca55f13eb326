# Sourced with overlay layers in $1: makes a fresh Debian root at $root, whose changes lie on a tmpfs, and words for tests.
mount -t tmpfs -o mode=755 tmpfs /mnt
root=/mnt/root
mkdir /mnt/upper /mnt/work "$root"
mount -t overlay overlay -o "lowerdir=$1,upperdir=/mnt/upper,workdir=/mnt/work" "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"

in_root() {
    chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 "$@"
}

# `quiet COMMAND...`: prints what it says only when it fails.
quiet() {
    "$@" >/mnt/said 2>&1 || { cat /mnt/said; fail "$*"; }
}

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

# Puts the packages of a directory into the root under /debs/NAME.
offer() {
    mkdir -p "$root/debs/$2"
    mount --bind "$1" "$root/debs/$2"
}

# Everything in the root but what package tools keep for themselves: kind, rights, owner and name.
inventory() {
    (cd "$root" && find . -xdev \( -path ./proc -o -path ./dev -o -path ./debs -o -path ./tmp -o -path ./var/lib/dpkg -o -path ./var/cache \
        -o -path ./var/log -o -path ./var/lib/apt -o -path ./var/lib/rpm \) -prune -o -printf '%y %m %u:%g %p\n' | grep -v -e ' ./etc/[a-z.]*-$' \
        -e ' ./etc/.pwd.lock$' | sort)
    cat "$root/etc/group" "$root/etc/passwd"
}

# Links that say that a unit starts at boot.
enabled() {
    [ -L "$root/etc/systemd/system/multi-user.target.wants/hamn-helper.service" ]
}

lockdown_enabled() {
    [ -L "$root/etc/systemd/system/sysinit.target.wants/hamn-lockdown.service" ]
}

# What both formats must have made.
check_files() {
    [ "$(stat -c '%A %U:%G' "$root/usr/lib/hamn/hamn-helper" "$root/usr/bin/hamn" | sort -u)" = "-rwxr-xr-x root:root" ] || fail "program rights"
    [ "$(stat -c '%A %U:%G' "$root/etc/hamn" "$root/etc/hamn/policy.d" | sort -u)" = "drwxr-xr-x root:root" ] || fail "directory rights"
    [ -z "$(find "$root/usr/lib/hamn" "$root/usr/bin/hamn" -perm /6000)" ] || fail "a program is setuid"
    [ -z "$(getcap -r "$root/usr/lib/hamn" "$root/usr/bin/hamn" 2>/dev/null)" ] || fail "a program has file capabilities"
    grep -q '^hamn:' "$root/etc/group" || fail "there is no group hamn"
    in_root hamn --version | grep -q '^hamn ' || fail "hamn --version"
    in_root /usr/lib/hamn/hamn-helper --version | grep -q '^hamn-helper ' || fail "hamn-helper --version"
    in_root bash -n /usr/share/bash-completion/completions/hamn || fail "completions"
    [ ! -e "$root/run/hamn" ] || fail "the helper was started in a chroot"
    [ ! -e "$root/var/lib/hamn" ] || fail "the helper ran in a chroot"
}
