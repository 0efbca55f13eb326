//! `hamn`: the command line of Hamn. It asks the helper over its socket and never touches the network itself.

mod arguments;
mod commands;
mod exit;
mod restore;
mod secret;
mod show;
#[cfg(unix)]
#[path = "terminal/unix.rs"]
mod terminal;
#[cfg(windows)]
#[path = "terminal/windows.rs"]
mod terminal;
mod values;
mod wait;

use arguments::Arguments;
use clap::Parser;
use commands::Session;
use exit::Exit;
use hamn_ipc::{Problem, ProblemCode};
use show::View;
use std::env;
use std::io::{IsTerminal, Write, stderr, stdout};
use std::process::ExitCode;
use std::time::SystemTime;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let json = arguments.json;
    let session = session(json);
    let result = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Problem::with_detail(ProblemCode::Internal, error.to_string()))
        .and_then(|runtime| runtime.block_on(commands::run(arguments, &session)));
    match result {
        Ok(exit) => exit.into(),
        Err(problem) => {
            report(&problem, json);
            Exit::from(&problem).into()
        }
    }
}

/// The only place that looks at the environment and the clock.
fn session(json: bool) -> Session {
    let is_set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
    let wanted = !json && stdout().is_terminal() && !is_set("NO_COLOR") && env::var_os("TERM").is_none_or(|term| term != "dumb");
    let colour = wanted && terminal::shows_colours();
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let view = View { colour, now_unix_s: i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX) };
    let socket = env::var_os("HAMN_SOCKET").filter(|path| !path.is_empty()).map(Into::into);
    Session { socket, own_program: env::current_exe().ok(), json, view }
}

/// A problem: with `--json` the one object on standard output, otherwise two lines on standard error.
fn report(problem: &Problem, json: bool) {
    if json {
        let text = serde_json::to_string(problem).unwrap_or_default();
        let _ = writeln!(stdout(), "{text}");
    } else {
        let _ = writeln!(stderr(), "hamn: {}", show::plain(&problem.to_string()));
        let _ = writeln!(stderr(), "What to do: {}", show::plain(&problem.action));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use std::fmt::Write;
    use std::path::Path;

    #[test]
    fn the_help_is_checked_in() {
        fn collect(command: &mut clap::Command, path: &str, text: &mut String) {
            let _ = writeln!(text, "===== {path} --help\n{}", command.render_long_help());
            let names: Vec<String> =
                command.get_subcommands().map(|found| found.get_name().to_owned()).filter(|name| name != "help").collect();
            for name in names {
                if let Some(found) = command.find_subcommand_mut(&name) {
                    collect(found, &format!("{path} {name}"), text);
                }
            }
        }
        Arguments::command().debug_assert();
        let mut command = Arguments::command().term_width(100);
        command.build();
        let mut text = String::new();
        collect(&mut command, "hamn", &mut text);
        // Where the helper listens is the one word that differs between systems.
        let text = text.replace(hamn_ipc::DEFAULT_SOCKET, "/run/hamn/helper.sock");
        let text: String = text.lines().map(|line| line.trim_end().to_owned() + "\n").collect();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("HELP.txt");
        if env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        assert!(
            std::fs::read_to_string(path).unwrap() == text,
            "HELP.txt is out of date: run the tests with UPDATE=1 and read the difference"
        );
    }
}
