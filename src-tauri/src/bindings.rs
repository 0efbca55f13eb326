//! The types of the bridge as one JSON schema document, from which the page's TypeScript types are made.

use crate::commands::Versions;
use crate::deep_link::DeepLink;
use crate::files::Saved;
use crate::link::Link;
use crate::preferences::{Preferences, PreferencesPatch};
use crate::window::Navigate;
use crate::words::{WORDS, Words};
use hamn_ipc::Problem;
use hamn_ipc::wire::{
    AccountInfo, ConnectRequest, DeviceList, ImportProfile, IntentResult, Ladder, LogView, LoginRequest, PolicyView, ProfileList,
    Report, ResetSettings, ServerListing, SettingsPatch, SettingsView, VerifyReport,
};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// A command: its name, its arguments and what it answers. What it refuses is a `Problem`.
struct Command(&'static str, &'static [(&'static str, SchemaOf)], SchemaOf);

const COMMANDS: [Command; 32] = [
    Command("link", &[], of::<Link>),
    Command("connect", &[("request", of::<ConnectRequest>)], of::<IntentResult>),
    Command("disconnect", &[], of::<IntentResult>),
    Command("reconnect", &[], of::<IntentResult>),
    Command("servers", &[], of::<ServerListing>),
    Command("login", &[("request", of::<LoginRequest>)], of::<AccountInfo>),
    Command("logout", &[], of::<AccountInfo>),
    Command("account", &[], of::<AccountInfo>),
    Command("devices", &[], of::<DeviceList>),
    Command("remove_device", &[("id", of::<String>)], of::<DeviceList>),
    Command("rotate_key", &[], of::<DeviceList>),
    Command("profiles", &[], of::<ProfileList>),
    Command("import_profile", &[("request", of::<ImportProfile>)], of::<ProfileList>),
    Command("remove_profile", &[("name", of::<String>)], of::<ProfileList>),
    Command("settings", &[], of::<SettingsView>),
    Command("change_settings", &[("patch", of::<SettingsPatch>)], of::<SettingsView>),
    Command("reset_settings", &[("request", of::<ResetSettings>)], of::<SettingsView>),
    Command("policy", &[], of::<PolicyView>),
    Command("verify", &[], of::<VerifyReport>),
    Command("diagnose", &[], of::<Ladder>),
    Command("log", &[("lines", of::<u32>)], of::<LogView>),
    Command("report", &[], of::<Report>),
    Command("restore_network", &[], of::<IntentResult>),
    Command("versions", &[], of::<Versions>),
    Command("preferences", &[], of::<Preferences>),
    Command("change_preferences", &[("patch", of::<PreferencesPatch>)], of::<Preferences>),
    Command("save_report", &[("text", of::<String>)], of::<Saved>),
    Command("save_settings", &[("text", of::<String>)], of::<Saved>),
    Command("speak", &[("words", of::<Words>)], of::<()>),
    Command("ready", &[], of::<()>),
    Command("show_window", &[], of::<()>),
    Command("quit", &[], of::<()>),
];

const EVENTS: [(&str, SchemaOf); 4] =
    [("link", of::<Link>), ("navigate", of::<Navigate>), ("deep_link", of::<DeepLink>), ("preferences", of::<Preferences>)];

/// The document: `definitions`, `commands`, `events`, and the words that the bridge asks for.
#[must_use]
pub fn document() -> Value {
    let mut generator = SchemaSettings::draft2020_12()
        .with(|settings| "/definitions".clone_into(settings.definitions_path.to_mut()))
        .into_generator();
    of::<Problem>(&mut generator);
    let commands: Map<String, Value> = COMMANDS
        .iter()
        .map(|Command(name, arguments, answer)| {
            let arguments: Map<String, Value> =
                arguments.iter().map(|(name, schema)| ((*name).to_owned(), schema(&mut generator).to_value())).collect();
            ((*name).to_owned(), json!({ "args": arguments, "result": answer(&mut generator) }))
        })
        .collect();
    let events: Map<String, Value> =
        EVENTS.iter().map(|(name, payload)| ((*name).to_owned(), payload(&mut generator).to_value())).collect();
    let mut definitions: Map<String, Value> = generator.take_definitions(true).into_iter().collect();
    definitions.sort_keys();
    let words: Vec<&str> = WORDS.iter().map(|(key, _)| *key).collect();
    json!({ "definitions": definitions, "commands": commands, "events": events, "words": words })
}
