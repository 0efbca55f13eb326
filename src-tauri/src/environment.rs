//! What the environment says: where the helper's socket and the window's own files are. The only place that looks at it.

#[cfg(target_os = "linux")]
#[path = "environment/linux.rs"]
mod user;
#[cfg(target_os = "macos")]
#[path = "environment/macos.rs"]
mod user;
#[cfg(windows)]
#[path = "environment/windows.rs"]
mod user;

use std::ffi::OsString;
use std::path::PathBuf;

/// Why there is no directory of preferences.
pub const NO_CONFIG: &str = user::NO_CONFIG;

/// Variables of the window.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Environment {
    /// `HAMN_SOCKET`: another socket than the usual one.
    pub socket: Option<PathBuf>,
    /// Directory of the preferences: `HAMN_GUI_CONFIG_DIR`, or `hamn` in the user's configuration directory.
    pub config: Option<PathBuf>,
    /// `HAMN_GUI_FRESH_INSTANCE=1`: start although a window is open. For tests.
    pub fresh_instance: bool,
}

impl Environment {
    /// Reads the variables of this process.
    #[must_use]
    pub fn of_process() -> Self {
        Self::read(|name| std::env::var_os(name))
    }

    fn read(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let path = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        // A relative directory would depend on where the program was started.
        let absolute = |name: &str| path(name).filter(|path| path.is_absolute());
        let config = path("HAMN_GUI_CONFIG_DIR").or_else(|| user::config(absolute).map(|config| config.join("hamn")));
        let fresh_instance = variable("HAMN_GUI_FRESH_INSTANCE").is_some_and(|value| value == "1");
        Self { socket: path("HAMN_SOCKET"), config, fresh_instance }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Environment {
        Environment::read(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into()))
    }

    #[test]
    fn the_environment_says_where_files_are() {
        assert_eq!(read(&[]), Environment::default());
        assert_eq!(read(&[("HOME", "/home/a")]).config, Some("/home/a/.config/hamn".into()));
        assert_eq!(read(&[("HOME", "/home/a"), ("XDG_CONFIG_HOME", "conf")]).config, Some("/home/a/.config/hamn".into()));
        assert_eq!(read(&[("HOME", "/home/a"), ("XDG_CONFIG_HOME", "/c")]).config, Some("/c/hamn".into()));
        let test =
            read(&[("HOME", "/h"), ("HAMN_GUI_CONFIG_DIR", "/t"), ("HAMN_SOCKET", "/s"), ("HAMN_GUI_FRESH_INSTANCE", "1")]);
        assert_eq!(test, Environment { socket: Some("/s".into()), config: Some("/t".into()), fresh_instance: true });
        let empty = read(&[("HAMN_SOCKET", ""), ("HAMN_GUI_FRESH_INSTANCE", "0")]);
        assert_eq!(empty, Environment::default());
    }
}
