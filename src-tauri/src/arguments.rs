//! The command line of `hamn-gui`. Desktops, protocol handlers and test drivers write it, so what is unknown is left alone.

use crate::deep_link::{self, SCHEME};
use crate::window::View;
use hamn_core::location::Destination;

/// Most arguments that are looked at; a longer line was not written for us.
const MOST: usize = 32;

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Arguments {
    /// Do not show the window.
    pub hidden: bool,
    /// Started with the session: whether the window is shown is a preference.
    pub autostarted: bool,
    /// Draw without the graphics card.
    pub disable_gpu: bool,
    /// Print the version and end.
    pub version: bool,
    /// The view to show.
    pub view: Option<View>,
    /// A link that was opened. It is asked about and never followed by itself.
    pub link: Option<Destination>,
}

impl Arguments {
    /// Reads the arguments after the program's name.
    pub fn parse<T: AsRef<str>>(arguments: impl IntoIterator<Item = T>) -> Self {
        let mut parsed = Self::default();
        let mut links = 0_u32;
        for argument in arguments.into_iter().take(MOST) {
            match argument.as_ref() {
                "--hidden" => parsed.hidden = true,
                "--autostarted" => parsed.autostarted = true,
                "--disable-gpu" => parsed.disable_gpu = true,
                "--version" => parsed.version = true,
                link if is_link(link) => {
                    links += 1;
                    parsed.link = deep_link::parse(link).ok();
                }
                other => {
                    if let Some(view) = other.strip_prefix("--view=") {
                        parsed.view = View::ALL.into_iter().find(|known| known.as_str() == view);
                    }
                }
            }
        }
        // Two links in one line come from nobody who means well.
        if links > 1 {
            parsed.link = None;
        }
        parsed
    }
}

fn is_link(argument: &str) -> bool {
    argument.get(..SCHEME.len()).is_some_and(|start| start.eq_ignore_ascii_case(SCHEME))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn country(country: &str) -> Option<Destination> {
        Some(Destination::Country { country: country.into() })
    }

    #[test]
    fn flags_and_links_are_read_and_the_rest_is_left_alone() {
        let parsed = Arguments::parse(["--hidden", "--gtk-something", "--view=servers", "hamn://connect/se", "file.txt"]);
        let expected = Arguments { hidden: true, view: Some(View::Servers), link: country("se"), ..Arguments::default() };
        assert_eq!(parsed, expected);
        assert_eq!(Arguments::parse(["--view=nowhere", "--hidden=1", ""]), Arguments::default());
    }

    #[test]
    fn two_links_or_a_bad_one_are_none() {
        assert_eq!(Arguments::parse(["hamn://connect/se", "hamn://connect/us"]).link, None);
        assert_eq!(Arguments::parse(["hamn://connect/se", "HAMN://login/x"]).link, None);
        assert_eq!(Arguments::parse(["hamn://login/se"]).link, None);
    }
}
