# Fetches what the window needs from the mirror. Arguments: layers, where to keep it, the directory with the packages.
. "${0%/*}/root.sh"
offer "$3" first
mount --bind "$2/lists" "$root/var/lib/apt/lists"
mount --bind "$2/debs" "$root/var/cache/apt/archives"
cp /etc/resolv.conf "$root/etc/resolv.conf.new"
mv "$root/etc/resolv.conf.new" "$root/etc/resolv.conf"
apt-config dump Acquire::http::Proxy >"$root/etc/apt/apt.conf.d/90proxy"
# The sandbox of apt's own user cannot write to these directories.
echo 'APT::Sandbox::User "root";' >"$root/etc/apt/apt.conf.d/91sandbox"
quiet in_root apt-get -q -y update
quiet in_root sh -c 'apt-get -q -y --no-install-recommends --download-only install /debs/first/hamn_*.deb /debs/first/hamn-gui_*.deb'
