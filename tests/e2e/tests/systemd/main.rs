//! Hamn on a Debian with the real systemd, systemd-resolved, NetworkManager and resolvconf.
//!
//! The machine under test is a PID namespace whose first process is systemd, on the client host of the laboratory: its
//! network is the laboratory's, so the ISP's witness counts what leaves. Its root file system is made by `debootstrap` once
//! (see `debian_root`); a test's changes lie on a tmpfs and vanish. `HAMN_SKIP_SYSTEMD=1` skips, saying so.

mod backends;
mod early_boot;
mod lifecycle;
mod machine;
mod packages;
mod peer;
mod resolved;
mod unit;
