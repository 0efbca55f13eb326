//! Why a profile is refused, and what is remarked about one that is not: a line, a stable code, what is wrong and what to do. No
//! text of the file is repeated, because a key could stand anywhere in it.

use serde::Serialize;

/// Why a profile is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {} {}", problem.message(), problem.action())]
pub struct ProfileError {
    /// Line, counted from 1; for something that is missing, the last line.
    pub line: u32,
    /// What is wrong.
    pub problem: Problem,
}

macro_rules! problems {
    ($($(#[$doc:meta])* $name:ident: $code:literal, $message:literal, $action:literal;)*) => {
        /// What can be wrong with a profile.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Problem {
            $($(#[$doc])* $name,)*
        }

        impl Problem {
            /// All problems, for tests and translations.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Stable code.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// What is wrong, in one sentence.
            #[must_use]
            pub const fn message(self) -> &'static str {
                match self { $(Self::$name => $message,)* }
            }

            /// What to do, in one sentence.
            #[must_use]
            pub const fn action(self) -> &'static str {
                match self { $(Self::$name => $action,)* }
            }
        }
    };
}

problems! {
    /// Over 64 KiB.
    TooBig: "too_big", "The file is larger than 64 KiB.",
        "Import a WireGuard configuration.";
    /// Not UTF-8 (UTF-16 for instance).
    NotText: "not_text", "The file is not UTF-8 text.",
        "Save it as UTF-8.";
    /// NUL, a lone carriage return, an escape, a byte order mark inside the text.
    ControlCharacter: "control_character", "The line has a control character.",
        "Remove it, and end lines with LF or CR LF.";
    /// Over 512 bytes.
    LineTooLong: "line_too_long", "The line is longer than 512 bytes.",
        "Split it: Address, DNS and AllowedIPs may be repeated.";
    /// A setting before the first section.
    OutsideSection: "outside_section", "The setting stands before the first section.",
        "Begin with [Interface].";
    /// Another section than `[Interface]` and `[Peer]`.
    UnknownSection: "unknown_section", "The section is neither [Interface] nor [Peer].",
        "Remove it.";
    /// A second `[Interface]`.
    SeveralInterfaces: "several_interfaces", "There is a second [Interface] section.",
        "Keep one.";
    /// A second `[Peer]`.
    SeveralPeers: "several_peers", "There is a second [Peer] section, and a tunnel of Hamn has one gateway.",
        "Import each peer as a profile.";
    /// A line that is no `Key = value`.
    NotASetting: "not_a_setting", "The line is no `Key = value`.",
        "Remove or correct it.";
    /// A key without a value.
    EmptyValue: "empty_value", "The key has no value.",
        "Add one, or remove the line.";
    /// A key that Hamn does not know.
    UnknownKey: "unknown_key", "The key does not exist in this section.",
        "Remove or correct it.";
    /// `PreUp`, `PostUp`, `PreDown`, `PostDown`.
    RunsPrograms: "runs_programs", "The key would run a program as root, which no profile may.",
        "Remove the line.";
    /// `Table`.
    ChangesRouting: "changes_routing", "Hamn sets the routes itself, and Table would leave them out.",
        "Remove the line.";
    /// `SaveConfig`.
    WritesFile: "writes_file", "SaveConfig would overwrite the file.",
        "Remove the line.";
    /// A key that may stand once stands twice.
    DuplicateKey: "duplicate_key", "The key stands twice.",
        "Keep the one that is right.";
    /// `PrivateKey`.
    BadPrivateKey: "bad_private_key", "The private key is not a usable key.",
        "Copy all 44 characters again.";
    /// `PublicKey`.
    BadPublicKey: "bad_public_key", "The public key is not a usable key.",
        "Copy all 44 characters again.";
    /// `PresharedKey`.
    BadPresharedKey: "bad_preshared_key", "The preshared key is not a usable key.",
        "Copy it again, or remove the line.";
    /// `Address`.
    BadAddress: "bad_address", "Not an address that a computer can have.",
        "Write it like 10.0.0.2/32.";
    /// Over 16 addresses.
    TooManyAddresses: "too_many_addresses", "There are more than 16 addresses.",
        "Keep the ones that are used.";
    /// `DNS`.
    BadDns: "bad_dns", "Neither the address of a resolver nor a search domain.",
        "Write it like 10.0.0.1.";
    /// A loopback resolver.
    DnsLoopback: "dns_loopback", "A resolver on this computer would ask others outside the tunnel.",
        "Write the address of the server's resolver.";
    /// Over 10 resolvers or 6 search domains.
    TooManyDns: "too_many_dns", "There are more than 10 resolvers or 6 search domains.",
        "Keep the ones that are used.";
    /// `MTU`.
    BadMtu: "bad_mtu", "The MTU is not a number from 576 to 9000, or from 1280 with IPv6.",
        "Remove the line, or write 1420.";
    /// A name instead of an address.
    EndpointIsName: "endpoint_is_name", "The endpoint is a name, which would be looked up outside the tunnel, where anybody can answer.",
        "Write the server's IP address.";
    /// `Endpoint`.
    BadEndpoint: "bad_endpoint", "The endpoint is not ADDRESS:PORT.",
        "Write it like 198.51.100.1:51820 or [2001:db8::1]:51820.";
    /// An endpoint that is no host.
    EndpointUnroutable: "endpoint_unroutable", "No server can have the endpoint's address.",
        "Write the server's IP address.";
    /// `AllowedIPs`.
    BadAllowedIps: "bad_allowed_ips", "Not a network.",
        "Write it like 0.0.0.0/0.";
    /// Over 1024 networks.
    TooManyAllowedIps: "too_many_allowed_ips", "There are more than 1024 networks.",
        "Join them, or write 0.0.0.0/0, ::/0.";
    /// A network that contains nothing routable.
    AllowedIpsUnroutable: "allowed_ips_unroutable", "The network has no address that a tunnel can carry.",
        "Remove it.";
    /// `PersistentKeepalive`.
    BadKeepalive: "bad_keepalive", "The keepalive is not a number of seconds up to 65535.",
        "Write 25, or remove the line.";
    /// No `[Interface]` section.
    NoInterface: "no_interface", "There is no [Interface] section.",
        "Import a complete WireGuard configuration.";
    /// No `[Peer]` section.
    NoPeer: "no_peer", "There is no [Peer] section.",
        "Import a complete WireGuard configuration.";
    /// No `PrivateKey`.
    NoPrivateKey: "no_private_key", "There is no PrivateKey.",
        "Add it to [Interface].";
    /// No `Address`.
    NoAddress: "no_address", "There is no Address.",
        "Add to [Interface] the address that the server gave you.";
    /// No `PublicKey`.
    NoPublicKey: "no_public_key", "There is no PublicKey.",
        "Add the server's public key to [Peer].";
    /// No `Endpoint`.
    NoEndpoint: "no_endpoint", "There is no Endpoint.",
        "Add the server's IP address and port to [Peer].";
    /// No `AllowedIPs`.
    NoAllowedIps: "no_allowed_ips", "There are no AllowedIPs.",
        "Add `AllowedIPs = 0.0.0.0/0, ::/0` to [Peer].";
}

macro_rules! remarks {
    ($($(#[$doc:meta])* $name:ident: $code:literal, $message:literal;)*) => {
        /// What of an accepted profile is not as it may seem.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Remark {
            $($(#[$doc])* $name,)*
        }

        impl Remark {
            /// All remarks, for tests and translations.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Stable code.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// One sentence.
            #[must_use]
            pub const fn message(self) -> &'static str {
                match self { $(Self::$name => $message,)* }
            }
        }
    };
}

remarks! {
    /// `ListenPort`, `FwMark`.
    IgnoredKey: "ignored_key", "ListenPort and FwMark are ignored: Hamn chooses its own port and mark.";
    /// `AllowedIPs` without a default route of a family that the tunnel has.
    NotEverything: "not_everything",
        "AllowedIPs does not hold everything: traffic to other addresses is blocked, not sent outside the tunnel.";
    /// No `DNS`.
    NoDns: "no_dns", "The profile has no DNS: names are not resolved unless you set resolvers with `hamn settings set dns`.";
    /// Resolvers that the tunnel does not carry.
    DnsOutside: "dns_outside", "AllowedIPs does not hold the resolvers: names are not resolved.";
    /// Search domains.
    SearchIgnored: "search_ignored", "Search domains are kept in the profile but not set on this computer.";
}
