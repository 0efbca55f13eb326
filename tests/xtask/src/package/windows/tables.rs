//! What `wixl` cannot say: the administrator's settings as properties and registry values, and the statements that finish the MSI's tables.
//! Names and numbers: learn.microsoft.com, "Windows Installer database tables".

use super::super::policy::{Kind, SETTINGS, Setting};
use anyhow::Result;

/// What the installer remembers across upgrades, besides the programs' directory.
const KEY: &str = r"SOFTWARE\Hamn\Setup";
/// Where the helper looks for the settings given to the installer: those that hold, and those where people start.
const POLICY: [(&str, &str, &str); 2] =
    [("set", r"SOFTWARE\Hamn\Policy", "LOCKED<>\"0\""), ("free", r"SOFTWARE\Hamn\Policy\Recommended", "LOCKED=\"0\"")];
/// What the window's process calls itself (`identifier` in its configuration).
pub const WINDOW: &str = "org.hamn.client";
/// Public properties besides the settings.
pub const OTHERS: [&str; 4] = ["INSTALLDIR", "LOCKED", "FORGET", "PURGE"];

/// The fragment with a component for each setting and kind of setting, and the list of these and of the window's. `identify` gives a word its fixed GUID.
pub fn settings(window: bool, identify: &impl Fn(&str) -> Result<String>) -> Result<String> {
    let (mut components, mut references) = (String::new(), String::new());
    let mut component = |id: &str, values: &str| -> Result<()> {
        let code = identify(&format!("component {id}"))?;
        components
            .push_str(&format!("      <Component Id=\"{id}\" Guid=\"{{{code}}}\" Win64=\"yes\">\n{values}      </Component>\n"));
        references.push_str(&format!("      <ComponentRef Id=\"{id}\"/>\n"));
        Ok(())
    };
    for Setting { key, property, kind, .. } in &SETTINGS {
        let (form, key_path) = (if *kind == Kind::Switch { "integer" } else { "string" }, " KeyPath=\"yes\"");
        for (word, place, _) in POLICY {
            component(&format!("{word}_{key}"), &value(place, key, form, property, key_path))?;
        }
        component(&format!("told_{key}"), &value(KEY, property, "string", property, key_path))?;
    }
    component("told_locked", &value(KEY, "LOCKED", "string", "LOCKED", " KeyPath=\"yes\""))?;
    if window {
        references.push_str("      <ComponentRef Id=\"window\"/>\n      <ComponentRef Id=\"menu\"/>\n");
    }
    Ok(format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<Wix xmlns=\"http://schemas.microsoft.com/wix/2006/wi\">\n  <Fragment>\n    \
         <DirectoryRef Id=\"INSTALLDIR\">\n{components}    </DirectoryRef>\n  </Fragment>\n  <Fragment>\n    \
         <ComponentGroup Id=\"Rest\">\n{references}    </ComponentGroup>\n  </Fragment>\n</Wix>\n"
    ))
}

fn value(key: &str, name: &str, form: &str, property: &str, key_path: &str) -> String {
    format!(
        "        <RegistryValue Root=\"HKLM\" Key=\"{key}\" Name=\"{name}\" Type=\"{form}\" Value=\"[{property}]\"{key_path}/>\n"
    )
}

/// The statements, in order. Nothing in them comes from outside this program.
pub fn statements(window: bool) -> Vec<String> {
    let mut all = fixed();
    if window {
        all.extend(shortcut());
    }
    let mut secure: Vec<&str> = vec!["WIX_DOWNGRADE_DETECTED", "WIX_UPGRADE_DETECTED"];
    secure.extend(OTHERS);
    secure.extend(SETTINGS.iter().map(|setting| setting.property));
    all.extend(assign("INSTALLDIR", 60));
    for (property, sequence) in SETTINGS.iter().map(|setting| setting.property).chain(["LOCKED"]).zip(61_u16..) {
        all.extend(search(property));
        all.extend(assign(property, sequence));
    }
    for Setting { key, property, .. } in &SETTINGS {
        for (word, _, locked) in POLICY {
            all.push(component_condition(&format!("{word}_{key}"), &format!("{property} AND {locked}")));
        }
        all.push(component_condition(&format!("told_{key}"), property));
    }
    all.push(component_condition("told_locked", "LOCKED"));
    all.extend(SETTINGS.iter().filter_map(refusal));
    all.push(condition("NOT LOCKED OR LOCKED=\"0\" OR LOCKED=\"1\"", "LOCKED must be 0 or 1."));
    // The service runs as the system: its directory is one that only administrators can write.
    all.push(condition(
        "NOT INSTALLDIR OR (INSTALLDIR ~<< ProgramFiles64Folder AND NOT INSTALLDIR >< \"..\")",
        "INSTALLDIR must be a directory below Program Files.",
    ));
    all.push(format!("UPDATE Property SET Value='{}' WHERE Property='SecureCustomProperties'", secure.join(";")));
    all
}

fn fixed() -> Vec<String> {
    let words = [
        // Within the transaction: when the newer version cannot be installed, the older one comes back.
        "UPDATE InstallExecuteSequence SET Sequence=1501 WHERE Action='RemoveExistingProducts'",
        "CREATE TABLE Environment (Environment CHAR(72) NOT NULL, Name CHAR(255) NOT NULL LOCALIZABLE, Value CHAR(255) LOCALIZABLE, \
         Component_ CHAR(72) NOT NULL PRIMARY KEY Environment)",
        // `=` writes, `-` removes with the component, `*` is the computer's and not a user's.
        "INSERT INTO Environment (Environment, Name, Value, Component_) VALUES ('path', '=-*PATH', '[~];[INSTALLDIR]', 'command')",
        "INSERT INTO InstallExecuteSequence (Action, Sequence) VALUES ('RemoveEnvironmentStrings', 3300)",
        "INSERT INTO InstallExecuteSequence (Action, Sequence) VALUES ('WriteEnvironmentStrings', 5200)",
        // A program from a directory (34), deferred (1024), as the system (2048), whose failure is no failure (64).
        "INSERT INTO CustomAction (Action, Type, Source, Target) VALUES ('Purge', 3170, 'TARGETDIR', \
         '\"[System64Folder]cmd.exe\" /d /c rmdir /s /q \"[CommonAppDataFolder]Hamn\"')",
        "INSERT INTO InstallExecuteSequence (Action, Condition, Sequence) VALUES ('Purge', \
         'REMOVE~=\"ALL\" AND PURGE=\"1\" AND NOT UPGRADINGPRODUCTCODE', 3501)",
    ];
    words.into_iter().map(str::to_owned).collect()
}

/// The name of the window's process on its shortcut: without it Windows shows no notification of a program that is no package.
fn shortcut() -> [String; 2] {
    [
        "CREATE TABLE MsiShortcutProperty (MsiShortcutProperty CHAR(72) NOT NULL, Shortcut_ CHAR(72) NOT NULL, \
         PropertyKey CHAR(255) NOT NULL LOCALIZABLE, PropVariantValue CHAR(255) NOT NULL LOCALIZABLE PRIMARY KEY MsiShortcutProperty)"
            .to_owned(),
        format!(
            "INSERT INTO MsiShortcutProperty (MsiShortcutProperty, Shortcut_, PropertyKey, PropVariantValue) \
             VALUES ('menu', 'menu', 'System.AppUserModel.ID', '{WINDOW}')"
        ),
    ]
}

/// Finds what an earlier installation was given.
fn search(property: &str) -> [String; 2] {
    [
        // A value of the registry as it is (2), of 64-bit programs (16), below HKEY_LOCAL_MACHINE (2).
        format!(
            "INSERT INTO RegLocator (Signature_, Root, `Key`, `Name`, `Type`) VALUES ('was_{property}', 2, '{KEY}', '{property}', 18)"
        ),
        format!("INSERT INTO AppSearch (Property, Signature_) VALUES ('WAS_{property}', 'was_{property}')"),
    ]
}

/// A property has the value that was found, unless another is given now. Maintenance of what is installed never takes one from the command
/// line: anybody may ask for a repair.
fn assign(property: &str, sequence: u16) -> [String; 2] {
    [
        format!(
            "INSERT INTO CustomAction (Action, Type, Source, Target) VALUES ('Remember_{property}', 51, '{property}', '[WAS_{property}]')"
        ),
        format!(
            "INSERT INTO InstallExecuteSequence (Action, Condition, Sequence) VALUES ('Remember_{property}', \
             'Installed OR NOT ({property} OR FORGET=\"1\")', {sequence})"
        ),
    ]
}

fn component_condition(component: &str, condition: &str) -> String {
    format!("UPDATE Component SET Condition='{condition}' WHERE Component='{component}'")
}

fn condition(condition: &str, message: &str) -> String {
    format!("INSERT INTO LaunchCondition (Condition, Description) VALUES ('{condition}', '{message}')")
}

/// What is told at once. The rest is checked by the helper, which blocks the network when it cannot understand a setting.
fn refusal(setting: &Setting) -> Option<String> {
    let Setting { property, kind, begins, .. } = setting;
    let words: Vec<&str> = match kind {
        Kind::Switch => vec!["0", "1"],
        Kind::Choice(words) => words.iter().map(|(word, _)| *word).collect(),
        Kind::Text | Kind::List => {
            return begins.map(|begins| {
                condition(
                    &format!("NOT {property} OR {property} << \"{begins}\""),
                    &format!("{property} must begin with {begins}."),
                )
            });
        }
    };
    let tests: Vec<String> = words.iter().map(|word| format!("{property}=\"{word}\"")).collect();
    Some(condition(
        &format!("NOT {property} OR {}", tests.join(" OR ")),
        &format!("{property} must be one of: {}.", words.join(", ")),
    ))
}
