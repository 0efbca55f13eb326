//! What the user prefers about the window itself. Nothing here has to do with protection: that is the helper's.

mod store;

pub use store::Store;

use hamn_core::location::Destination;
use hamn_ipc::{Problem, ProblemCode};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

/// Most recent places that are kept.
pub const MOST_RECENTS: usize = 8;
/// Most favourites that are kept.
pub const MOST_FAVOURITES: usize = 200;
/// Longest language tag in bytes (BCP 47 asks for room for 35).
const LONGEST_TAG: usize = 35;

/// Light or dark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Theme {
    /// As the desktop.
    #[default]
    System,
    /// Light.
    Light,
    /// Dark.
    Dark,
}

/// The window's own preferences.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Preferences {
    /// Light or dark.
    pub theme: Theme,
    /// Language tag (BCP 47); the desktop's language when absent.
    pub language: Option<String>,
    /// Places that the user marked, at most 200.
    pub favourites: Vec<Destination>,
    /// Places where a tunnel came up, the last one first, at most 8.
    pub recents: Vec<Destination>,
    /// Notifications of the desktop.
    pub notifications: bool,
    /// Start with the session.
    pub autostart: bool,
    /// Stay hidden when started with the session.
    pub start_hidden: bool,
    /// Closing the window leaves the program in the tray.
    pub close_to_tray: bool,
    /// How much time the graph shows, in seconds: 60, 300 or 3600.
    pub graph_window_s: u32,
    /// The introduction was seen.
    pub first_run_done: bool,
    /// Fewer movements, whatever the desktop says.
    pub reduce_motion: bool,
    /// Size of text in per cent, 100 to 200.
    pub text_scale_pct: u16,
}

impl Default for Preferences {
    fn default() -> Self {
        Self {
            theme: Theme::System,
            language: None,
            favourites: Vec::new(),
            recents: Vec::new(),
            notifications: true,
            autostart: false,
            start_hidden: false,
            close_to_tray: true,
            graph_window_s: 60,
            first_run_done: false,
            reduce_motion: false,
            text_scale_pct: 100,
        }
    }
}

/// Tells an absent field (`None`) from a null one (`Some(None)`).
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(input: D) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(input).map(Some)
}

/// The preferences to change; what is absent stays.
#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(transform = all_optional)]
pub struct PreferencesPatch {
    /// Light or dark.
    pub theme: Option<Theme>,
    /// Language tag; `null` for the desktop's language.
    #[serde(deserialize_with = "present")]
    #[schemars(with = "Option<String>")]
    pub language: Option<Option<String>>,
    /// All favourites.
    pub favourites: Option<Vec<Destination>>,
    /// All recent places (to forget them).
    pub recents: Option<Vec<Destination>>,
    /// Notifications of the desktop.
    pub notifications: Option<bool>,
    /// Start with the session.
    pub autostart: Option<bool>,
    /// Stay hidden when started with the session.
    pub start_hidden: Option<bool>,
    /// Closing the window leaves the program in the tray.
    pub close_to_tray: Option<bool>,
    /// How much time the graph shows, in seconds: 60, 300 or 3600.
    pub graph_window_s: Option<u32>,
    /// The introduction was seen.
    pub first_run_done: Option<bool>,
    /// Fewer movements, whatever the desktop says.
    pub reduce_motion: Option<bool>,
    /// Size of text in per cent, 100 to 200.
    pub text_scale_pct: Option<u16>,
}

/// Leaves `"default": null` out of a schema whose fields are all optional: it says nothing, and generators take it for a value.
fn all_optional(schema: &mut schemars::Schema) {
    let Some(fields) = schema.get_mut("properties").and_then(serde_json::Value::as_object_mut) else { return };
    for field in fields.values_mut().filter_map(serde_json::Value::as_object_mut) {
        field.remove("default");
    }
}

impl Preferences {
    /// These preferences with the changes.
    ///
    /// # Errors
    /// `invalid_value` when the result would not be valid; nothing is changed then.
    pub fn with(&self, patch: PreferencesPatch) -> Result<Self, Problem> {
        let old = self.clone();
        let next = Self {
            theme: patch.theme.unwrap_or(old.theme),
            language: patch.language.unwrap_or(old.language),
            favourites: patch.favourites.unwrap_or(old.favourites),
            recents: patch.recents.unwrap_or(old.recents),
            notifications: patch.notifications.unwrap_or(old.notifications),
            autostart: patch.autostart.unwrap_or(old.autostart),
            start_hidden: patch.start_hidden.unwrap_or(old.start_hidden),
            close_to_tray: patch.close_to_tray.unwrap_or(old.close_to_tray),
            graph_window_s: patch.graph_window_s.unwrap_or(old.graph_window_s),
            first_run_done: patch.first_run_done.unwrap_or(old.first_run_done),
            reduce_motion: patch.reduce_motion.unwrap_or(old.reduce_motion),
            text_scale_pct: patch.text_scale_pct.unwrap_or(old.text_scale_pct),
        };
        next.check().map_err(|why| Problem::with_detail(ProblemCode::InvalidValue, why))?;
        Ok(next)
    }

    /// These preferences with `place` as the most recent one; `None` when it is so already.
    #[must_use]
    pub fn with_recent(&self, place: &Destination) -> Option<Self> {
        if self.recents.first() == Some(place) || place.validate().is_err() {
            return None;
        }
        let others = self.recents.iter().filter(|recent| *recent != place).cloned();
        let recents = std::iter::once(place.clone()).chain(others).take(MOST_RECENTS).collect();
        Some(Self { recents, ..self.clone() })
    }

    fn check(&self) -> Result<(), &'static str> {
        if self.favourites.len() > MOST_FAVOURITES {
            return Err("there are at most 200 favourites");
        }
        if self.recents.len() > MOST_RECENTS {
            return Err("there are at most 8 recent places");
        }
        if let Some(bad) = self.favourites.iter().chain(&self.recents).find_map(|place| place.validate().err()) {
            return Err(bad.0);
        }
        if self.language.as_ref().is_some_and(|tag| !is_tag(tag)) {
            return Err("a language tag is letters and digits with hyphens between them");
        }
        if ![60, 300, 3_600].contains(&self.graph_window_s) {
            return Err("the graph shows 60, 300 or 3600 seconds");
        }
        if !(100..=200).contains(&self.text_scale_pct) {
            return Err("text is 100 to 200 per cent of its size");
        }
        Ok(())
    }
}

fn is_tag(tag: &str) -> bool {
    let part = |part: &str| (1..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    tag.len() <= LONGEST_TAG && tag.split('-').all(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn patch(value: serde_json::Value) -> PreferencesPatch {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_patch_changes_what_it_names_and_null_means_the_desktops_language() {
        let swedish = Preferences::default().with(patch(json!({"language": "sv", "theme": "dark"}))).unwrap();
        assert_eq!((swedish.language.as_deref(), swedish.theme), (Some("sv"), Theme::Dark));
        assert_eq!(swedish.with(patch(json!({}))).unwrap(), swedish);
        assert_eq!(swedish.with(patch(json!({"language": null}))).unwrap().language, None);
        assert!(serde_json::from_value::<PreferencesPatch>(json!({"them": "dark"})).is_err());
    }

    #[test]
    fn what_no_window_could_use_is_refused() {
        let many = vec![json!({"kind": "best"}); MOST_FAVOURITES + 1];
        let refused = [
            json!({"language": ""}),
            json!({"language": "sv/../x"}),
            json!({"language": "x".repeat(36)}),
            json!({"graph_window_s": 61}),
            json!({"text_scale_pct": 99}),
            json!({"text_scale_pct": 201}),
            json!({"favourites": many}),
            json!({"favourites": [{"kind": "profile", "name": "../x"}]}),
            json!({"recents": [{"kind": "country", "country": "SE"}]}),
        ];
        for bad in refused {
            let problem = Preferences::default().with(patch(bad.clone())).unwrap_err();
            assert_eq!(problem.code, ProblemCode::InvalidValue, "{bad}");
        }
    }

    #[test]
    fn recents_are_few_without_repetition_and_the_last_is_first() {
        let mut preferences = Preferences::default();
        let place = |number: usize| Destination::City { city: format!("city-{number}") };
        for number in 0..12 {
            preferences = preferences.with_recent(&place(number)).unwrap();
        }
        assert_eq!(preferences.recents.len(), MOST_RECENTS);
        assert_eq!(preferences.with_recent(&place(11)), None, "nothing new");
        let again = preferences.with_recent(&place(6)).unwrap();
        assert_eq!((again.recents.len(), &again.recents[0]), (MOST_RECENTS, &place(6)));
        assert_eq!(again.recents.iter().filter(|recent| **recent == place(6)).count(), 1);
        assert_eq!(preferences.with_recent(&Destination::City { city: "../x".into() }), None);
    }
}
