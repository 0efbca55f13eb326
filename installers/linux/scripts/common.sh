# What the scripts of both package formats share: the builder puts it at the top of each.

# True on a running system, false in a chroot: there the kernel, its rules and the service manager are somebody else's.
on_own_root() {
    [ "$(stat -Lc %d:%i /proc/1/root 2>/dev/null)" = "$(stat -c %d:%i /)" ]
}

systemd_runs() {
    [ -d /run/systemd/system ] && on_own_root
}

warn() {
    echo "hamn: $*" >&2
}

add_group() {
    systemd-sysusers hamn.conf
}

# Also applied at every boot; the helper itself sees /proc/sys read-only.
apply_sysctl() {
    if on_own_root && [ -x /usr/lib/systemd/systemd-sysctl ]; then
        /usr/lib/systemd/systemd-sysctl /usr/lib/sysctl.d/50-hamn.conf || warn "net.ipv4.conf.all.src_valid_mark could not be set"
    fi
}

# Stopping keeps what the saved intent asks for, so the network is given back afterwards, by the program that is still here.
# Someone who uninstalls wants the network open: a failure is said and does not keep the package installed.
stop_and_open_network() {
    if systemd_runs; then
        systemctl stop hamn-helper.service hamn-lockdown.service || warn "the helper could not be stopped"
    fi
    if on_own_root && [ -x /usr/lib/hamn/hamn-helper ]; then
        /usr/lib/hamn/hamn-helper --restore-network >/dev/null ||
            warn "the network could not be restored; if it is blocked, restart the computer"
    fi
}
