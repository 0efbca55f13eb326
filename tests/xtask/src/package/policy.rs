//! The administrator's settings as the installers write them: one table for the MSI's properties, the setup program's options and the
//! templates of group policy. What the values mean is `hamn_core::managed`; tests compare both.

/// What kind of value a setting has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 0 or 1.
    Switch,
    /// One of these words, each with its name for people.
    Choice(&'static [(&'static str, &'static str)]),
    /// One line.
    Text,
    /// Several, separated by commas where there is one line only.
    List,
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its name in a policy.
    pub key: &'static str,
    /// The installers' public property.
    pub property: &'static str,
    /// Its values.
    pub kind: Kind,
    /// Its name for people.
    pub title: &'static str,
    /// What it does.
    pub explanation: &'static str,
    /// A good value, in the words of the command line.
    pub example: &'static str,
    /// With what a value on the command line must begin, when that can be told at once.
    pub begins: Option<&'static str>,
}

const fn setting(
    key: &'static str,
    property: &'static str,
    kind: Kind,
    title: &'static str,
    explanation: &'static str,
    example: &'static str,
) -> Setting {
    Setting { key, property, kind, title, explanation, example, begins: None }
}

/// Every setting that a policy can have, in the order of the editor for group policies.
pub static SETTINGS: [Setting; 12] = [
    setting(
        "organisation",
        "ORGANISATION",
        Kind::Text,
        "Name of the organisation",
        "Shown to people as the one who manages this computer. Nothing is decided by it. One line of at most 80 characters.",
        "Example AB",
    ),
    Setting {
        begins: Some("https://"),
        ..setting(
            "provider",
            "PROVIDER",
            Kind::List,
            "Addresses of the provider",
            "One to ten https:// addresses of the provider's interface. Certificates and keys come from provider.json, which must be on \
             the computer too. Users cannot change the addresses once they are set here.",
            "https://vpn.example.org",
        )
    },
    setting(
        "auto_connect",
        "AUTOCONNECT",
        Kind::Switch,
        "Connect when the computer starts",
        "Enabled: the helper connects as soon as it runs. Disabled: somebody has to connect.",
        "1",
    ),
    setting(
        "always_on",
        "ALWAYSON",
        Kind::Switch,
        "Always on",
        "Enabled: connected from the start, and only an administrator can disconnect.",
        "1",
    ),
    setting(
        "kill_switch",
        "KILLSWITCH",
        Kind::Choice(&[
            ("off", "Off"),
            ("while_connected", "From connecting until somebody disconnects"),
            ("always", "Always: no network without a tunnel"),
        ]),
        "Kill switch",
        "When traffic outside the tunnel is blocked.",
        "always",
    ),
    setting(
        "lockdown",
        "LOCKDOWN",
        Kind::Switch,
        "Lockdown",
        "Enabled: the same as a kill switch that is always on, whatever else is set. Disabled: the kill switch decides.",
        "1",
    ),
    setting(
        "allow_lan",
        "ALLOWLAN",
        Kind::Switch,
        "Reach the local network",
        "Enabled: printers and such on the attached private network can be reached outside the tunnel.",
        "0",
    ),
    setting(
        "dns",
        "DNS",
        Kind::List,
        "Name servers",
        "The word provider, or one to ten addresses of name servers. They are asked inside the tunnel; a private address on an \
         attached network is asked outside.",
        "9.9.9.9,149.112.112.112",
    ),
    setting(
        "ipv6",
        "IPV6",
        Kind::Switch,
        "IPv6 inside the tunnel",
        "Enabled: IPv6 is carried when the server can. Disabled: IPv6 is rejected.",
        "1",
    ),
    setting(
        "destination",
        "DESTINATION",
        Kind::Text,
        "Where to connect to",
        "What connecting without a place means: a country, a city, a server or fastest, as `hamn connect` takes it.",
        "se",
    ),
    setting(
        "who_may_disconnect",
        "WHOMAYDISCONNECT",
        Kind::Choice(&[("anyone", "Whoever may connect"), ("admin", "Administrators")]),
        "Who may disconnect",
        "Who may give up the tunnel.",
        "admin",
    ),
    setting(
        "profiles_allowed",
        "PROFILESALLOWED",
        Kind::Switch,
        "Own profiles",
        "Disabled: profiles of other servers can be neither imported nor used.",
        "0",
    ),
];

/// Text as it may stand in XML, in attributes too.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Where group policy writes what holds, and what is only where people start.
const KEYS: [(&str, &str); 2] = [("", r"SOFTWARE\Policies\Hamn"), ("recommended_", r"SOFTWARE\Policies\Hamn\Recommended")];

/// The template of group policy: which registry value each setting is.
/// Form: learn.microsoft.com, "Group Policy ADMX Syntax Reference Guide".
pub fn admx() -> String {
    let mut policies = String::new();
    for (prefix, key) in KEYS {
        for setting in &SETTINGS {
            policies.push_str(&policy(setting, prefix, key));
        }
    }
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n\
         <!-- Written by `cargo xtask package templates` from tests/xtask/src/package/policy.rs. -->\n\
         <policyDefinitions xmlns=\"http://schemas.microsoft.com/GroupPolicy/2006/07/PolicyDefinitions\" revision=\"1.0\" schemaVersion=\"1.0\">\n\
         \x20 <policyNamespaces>\n    <target prefix=\"hamn\" namespace=\"Hamn.Policies\"/>\n  </policyNamespaces>\n\
         \x20 <resources minRequiredRevision=\"1.0\"/>\n\
         \x20 <supportedOn>\n    <definitions>\n      <definition name=\"hamn_0_1\" displayName=\"$(string.supported)\"/>\n    </definitions>\n  </supportedOn>\n\
         \x20 <categories>\n    <category name=\"hamn\" displayName=\"$(string.hamn)\"/>\n\
         \x20   <category name=\"recommended\" displayName=\"$(string.recommended)\">\n      <parentCategory ref=\"hamn\"/>\n    </category>\n  </categories>\n\
         \x20 <policies>\n{policies}  </policies>\n</policyDefinitions>\n"
    )
}

fn policy(setting: &Setting, prefix: &str, key: &str) -> String {
    let Setting { key: name, kind, .. } = setting;
    let category = if prefix.is_empty() { "hamn" } else { "recommended" };
    let (value, shown, body) = match kind {
        Kind::Switch => (
            format!(" valueName=\"{name}\""),
            String::new(),
            "      <enabledValue>\n        <decimal value=\"1\"/>\n      </enabledValue>\n      <disabledValue>\n        \
             <decimal value=\"0\"/>\n      </disabledValue>\n"
                .to_owned(),
        ),
        Kind::Choice(words) => {
            let items: String = words
                .iter()
                .map(|(word, _)| {
                    format!(
                        "          <item displayName=\"$(string.{name}_{word})\">\n            <value>\n              \
                         <string>{word}</string>\n            </value>\n          </item>\n"
                    )
                })
                .collect();
            let element =
                format!("        <enum id=\"{name}\" valueName=\"{name}\" required=\"true\">\n{items}        </enum>\n");
            (String::new(), presented(name), elements(&element))
        }
        Kind::Text => {
            let element = format!("        <text id=\"{name}\" valueName=\"{name}\" required=\"true\" maxLength=\"256\"/>\n");
            (String::new(), presented(name), elements(&element))
        }
        Kind::List => {
            let element = format!("        <multiText id=\"{name}\" valueName=\"{name}\" required=\"true\"/>\n");
            (String::new(), presented(name), elements(&element))
        }
    };
    format!(
        "    <policy name=\"{prefix}{name}\" class=\"Machine\" displayName=\"$(string.{name})\" \
         explainText=\"$(string.{name}_explained)\"{shown} key=\"{key}\"{value}>\n      <parentCategory ref=\"{category}\"/>\n      \
         <supportedOn ref=\"hamn_0_1\"/>\n{body}    </policy>\n"
    )
}

fn presented(name: &str) -> String {
    format!(" presentation=\"$(presentation.{name})\"")
}

fn elements(inner: &str) -> String {
    format!("      <elements>\n{inner}      </elements>\n")
}

/// The English words of the template.
pub fn adml() -> String {
    let mut strings = String::new();
    let mut string = |id: &str, text: &str| strings.push_str(&format!("      <string id=\"{id}\">{}</string>\n", escaped(text)));
    string("hamn", "Hamn");
    string("recommended", "Defaults, which people may change");
    string("supported", "Hamn 0.1 or newer");
    let mut presentations = String::new();
    for Setting { key, property, kind, title, explanation, example, .. } in &SETTINGS {
        string(key, title);
        string(
            &format!("{key}_explained"),
            &format!("{explanation} The installers call it {property}, for example {property}={example}."),
        );
        let label = escaped(title);
        let control = match kind {
            Kind::Switch => continue,
            Kind::Choice(words) => {
                for (word, name) in *words {
                    string(&format!("{key}_{word}"), name);
                }
                format!("<dropdownList refId=\"{key}\" noSort=\"true\">{label}</dropdownList>")
            }
            Kind::Text => format!("<textBox refId=\"{key}\">\n          <label>{label}</label>\n        </textBox>"),
            Kind::List => format!("<multiTextBox refId=\"{key}\">{label} (one a line)</multiTextBox>"),
        };
        presentations.push_str(&format!("      <presentation id=\"{key}\">\n        {control}\n      </presentation>\n"));
    }
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n\
         <policyDefinitionResources xmlns=\"http://schemas.microsoft.com/GroupPolicy/2006/07/PolicyDefinitions\" revision=\"1.0\" schemaVersion=\"1.0\">\n\
         \x20 <displayName>Hamn</displayName>\n  <description>Settings of the VPN client Hamn</description>\n  <resources>\n\
         \x20   <stringTable>\n{strings}    </stringTable>\n    <presentationTable>\n{presentations}    </presentationTable>\n  </resources>\n\
         </policyDefinitionResources>\n"
    )
}
