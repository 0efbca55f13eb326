# Boots a Debian root with systemd as the first process of a PID namespace. Runs inside the network and mount namespace of a
# laboratory host; nothing of the machine is changed but one control group, which the test removes.
# Arguments: overlay layers, a directory for mounts, name of the control group, then pairs "program place" of bind mounts.
set -eu
if [ "${1-}" != inside ]; then
    mkdir "$2/cgroup" "$2/guest"
    mount -t cgroup2 cgroup2 "$2/cgroup"
    mkdir "$2/cgroup/$3"
    # The inner namespace sees this group as the root of its hierarchy.
    echo $$ > "$2/cgroup/$3/cgroup.procs"
    exec unshare --pid --mount --uts --ipc --cgroup --fork --kill-child --propagation private sh "$0" inside "$@"
fi
shift
layers=$1 place=$2/guest
shift 3
mount -t tmpfs -o mode=755 tmpfs "$place"
root=$place/root
mkdir "$place/upper" "$place/work" "$root"
mount -t overlay overlay -o "lowerdir=$layers,upperdir=$place/upper,workdir=$place/work" "$root"
mount -t proc proc "$root/proc"
# Kernel settings of the machine cannot be changed from inside, those of the network namespace can.
mount --bind "$root/proc/sys" "$root/proc/sys"
mount --bind "$root/proc/sys/net" "$root/proc/sys/net"
mount -o remount,bind,ro "$root/proc/sys"
# Read-only, so that NetworkManager expects no udev.
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
mkdir "$root/dev/net" "$root/dev/pts" "$root/dev/shm"
while read -r name major minor; do
    mknod -m 666 "$root/dev/$name" c "$major" "$minor"
done <<END
null 1 3
zero 1 5
full 1 7
random 1 8
urandom 1 9
tty 5 0
net/tun 10 200
END
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
mount -t tmpfs tmpfs "$root/dev/shm"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
while [ $# -gt 0 ]; do
    mkdir -p "$root${2%/*}"
    touch "$root$2"
    mount --bind "$1" "$root$2"
    shift 2
done
hostname hamn-guest
cd "$root"
mkdir -p .old
pivot_root . .old
cd /
umount -l /.old
rmdir /.old
# Clock, modules and hardware are the machine's.
exec setpriv --bounding-set -sys_time,-sys_module,-sys_rawio,-syslog,-wake_alarm \
    env -i container=hamn-guest PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --log-level=info --log-target=journal --show-status=no </dev/null
