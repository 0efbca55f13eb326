//! `cargo xtask check-cross`: what can be said about Windows and macOS without a machine of theirs. Types and lints for both, the programs
//! linked for Windows, and every test that Wine can run, run.

mod seeded;
mod toolchain;
mod wine;

use crate::build::{cargo, root};
use crate::checks::counts;
use crate::commands::finish;
use crate::output::say;
use crate::steps::Steps;
use crate::system::{BASE, find, install_missing, may_install};
use anyhow::{Context, Result};
use pico_args::Arguments;
use std::process::{Command, ExitCode};
use toolchain::{NEEDS, Target, Toolchain};
use wine::Wine;

/// The packages that are for one system by nature, and why.
const LINUX_ONLY: [(&str, &str); 4] = [
    ("hamn-gui-tests", "drives the window in network namespaces"),
    ("hamn-e2e", "network namespaces"),
    ("hamn-bench-tunnel", "network namespaces"),
    ("hamn-xtask", "runs where the project is developed and packed"),
];

/// The window has steps of its own: among the other packages it would give shared dependencies other features.
const WINDOW: &str = "hamn-gui";

/// Tests that pass on Windows but not in Wine, as filters of nextest, and why.
const NOT_UNDER_WINE: [(&str, &str); 2] = [
    ("package(hamn-core) and test(/chosen_from_in_time/)", "a promise of time, which this machine's own run judges"),
    ("package(hamn-provider) and test(/the_minisign_program/)", "asks a program of this machine, where it ran"),
];

/// How the tests run.
const NEXTEST: &str = "--config-file tests/nextest.toml --profile wine --status-level fail --final-status-level slow";

/// What stays unsaid, and why.
const NOT_DONE: [(&str, &str); 7] = [
    (
        "Windows: filters, routes, DNS, Wintun are called",
        "Wine has neither the filtering platform nor these calls of the IP helper",
    ),
    ("Windows: caller of another account, low integrity", "Wine runs every program as one administrator"),
    ("Windows: MSVC", "Microsoft's libraries are not on this machine; .github/workflows builds it"),
    ("Windows: the window is shown", "Microsoft's WebView2 is not in Wine"),
    ("macOS x86-64: types of the window", "no line of it asks for the processor, and arm64 was checked"),
    ("macOS: programs are linked, tests run", "Apple's SDK is not on this machine; .github/workflows does it"),
    ("tests/model for other systems", "pure code: it ran on this machine, and Wine would run the same steps slower"),
];

/// The command.
pub fn check_cross(mut arguments: Arguments) -> Result<ExitCode> {
    let seeded = arguments.contains("--seeded");
    let only: Option<String> = arguments.opt_value_from_str("--only")?;
    finish(arguments)?;
    install_missing(&[BASE, NEEDS])?;
    if seeded {
        let toolchain = Toolchain::find()?;
        let missing: Vec<Target> =
            [Target::Windows, Target::MacArm].into_iter().filter(|target| !toolchain.has_std(*target)).collect();
        if !missing.is_empty() && !toolchain.build_std(&missing)?.status()?.success() {
            anyhow::bail!("the standard library could not be built");
        }
        return seeded::run(&toolchain, only.as_deref().unwrap_or_default());
    }
    let mut steps = Steps::default();
    run(&mut steps)?;
    Ok(steps.summary())
}

/// The steps, as the last part of `cargo xtask test`: a machine that cannot have the compiler skips them and says so.
pub fn run_if_possible(steps: &mut Steps) -> Result<()> {
    let missing = NEEDS.iter().any(|(program, _)| find(program).is_none());
    if missing && (!may_install() || find("apt-get").is_none()) {
        steps.skip("other systems", "their compiler is a package of Debian (rustc-web), and nothing may be installed here");
        return Ok(());
    }
    install_missing(&[NEEDS])?;
    run(steps)
}

/// The same packages in every step: another choice would have other features in shared dependencies, and those would be built again.
fn selection() -> String {
    let names = LINUX_ONLY.iter().map(|(package, _)| *package);
    [WINDOW].into_iter().chain(names).fold("--workspace".to_owned(), |words, package| format!("{words} --exclude {package}"))
}

fn run(steps: &mut Steps) -> Result<()> {
    let toolchain = Toolchain::find()?;
    let missing: Vec<Target> = Target::ALL.into_iter().filter(|target| !toolchain.has_std(*target)).collect();
    if !missing.is_empty() {
        say("Building Rust's standard library for the other systems (once; some minutes).");
        let name = format!("standard library {}", toolchain.version);
        if !steps.run(&name, toolchain.build_std(&missing))? {
            steps.skip("other systems", "there is no standard library for them");
            return Ok(());
        }
    }
    let words = format!("{} --all-targets --quiet", selection());
    for target in [Target::Windows, Target::MacArm] {
        steps.run(&format!("{}: lints", target.name()), toolchain.cargo(target, "clippy", &format!("{words} -- -D warnings")))?;
    }
    let intel = Target::MacIntel;
    steps.run(&format!("{}: types", intel.name()), toolchain.cargo(intel, "check", &words))?;
    let programs = format!("{} --bins --quiet", selection());
    let linked = steps.run("Windows: hamn.exe, hamn-helper.exe", toolchain.cargo(Target::Windows, "build", &programs))?;
    window(steps, &toolchain)?;
    under_wine(steps, &toolchain, linked)?;
    for (package, why) in LINUX_ONLY {
        steps.skip(&format!("{package} for other systems"), why);
    }
    for (what, why) in NOT_DONE.into_iter().chain(NOT_UNDER_WINE) {
        steps.skip(what, why);
    }
    Ok(())
}

/// The window, with whatever page was built: the types and the program do not depend on it.
fn window(steps: &mut Steps, toolchain: &Toolchain) -> Result<()> {
    let words = format!("-p {WINDOW} --all-targets --quiet -- -D warnings");
    for target in [Target::Windows, Target::MacArm] {
        steps.run(&format!("{}: lints of the window", target.name()), toolchain.cargo(target, "clippy", &words))?;
    }
    let words = format!("-p {WINDOW} --bins --quiet");
    steps.run("Windows: hamn-gui.exe", toolchain.cargo(Target::Windows, "build", &words))?;
    Ok(())
}

const TESTS: &str = "Windows: tests under Wine";
const WINDOW_TESTS: &str = "Windows: the window's tests under Wine";
const INSTALLERS: &str = "Windows: MSI and setup.exe under Wine";

fn under_wine(steps: &mut Steps, toolchain: &Toolchain, linked: bool) -> Result<()> {
    let wine = Wine::start(toolchain)?;
    let words = format!("{} --exclude hamn-model-tests", selection());
    let build = toolchain.cargo(Target::Windows, "test", &format!("{words} --tests --no-run --quiet"));
    if steps.run("Windows: tests are linked", build)? {
        let mut command = toolchain.cargo(Target::Windows, "nextest", &format!("run {words} {NEXTEST}"))?;
        let left_out: Vec<String> = NOT_UNDER_WINE.iter().map(|(filter, _)| format!("not ({filter})")).collect();
        if !left_out.is_empty() {
            command.args(["-E", &left_out.join(" and ")]);
        }
        run_tests(steps, TESTS, command)?;
    } else {
        steps.skip(TESTS, "they could not be linked");
    }
    let words = format!("-p {WINDOW} --tests");
    let build = toolchain.cargo(Target::Windows, "test", &format!("{words} --no-run --quiet"));
    if steps.run("Windows: the window's tests are linked", build)? {
        // Programs find it beside themselves, and the build puts it beside the window only.
        let (programs, library) = (toolchain.windows_programs(), "WebView2Loader.dll");
        std::fs::copy(programs.join(library), programs.join("deps").join(library)).with_context(|| format!("copy {library}"))?;
        run_tests(steps, WINDOW_TESTS, toolchain.cargo(Target::Windows, "nextest", &format!("run {words} {NEXTEST}"))?)?;
    } else {
        steps.skip(WINDOW_TESTS, "they could not be linked");
    }
    if linked {
        installers(steps, &wine, toolchain)?;
    } else {
        steps.skip(INSTALLERS, "the programs could not be linked");
    }
    Ok(())
}

/// The tests of the installers run on this machine and start Wine themselves: first with small programs in place of the real ones, in every
/// version and order, then with the real ones.
fn installers(steps: &mut Steps, wine: &Wine<'_>, toolchain: &Toolchain) -> Result<()> {
    for (name, filter, real) in
        [(INSTALLERS, "test(/::wine::wine_the/)", false), ("the same with the real programs", "test(/::wine::wine_real/)", true)]
    {
        let mut command = cargo(&format!("nextest run -p hamn-xtask --run-ignored all {NEXTEST} -E {filter}"))?;
        command.env("HAMN_WINE_SHIM", wine.library());
        if real {
            command.env("HAMN_WINDOWS_PROGRAMS", toolchain.windows_programs());
        }
        run_tests(steps, name, command)?;
    }
    Ok(())
}

fn run_tests(steps: &mut Steps, name: &str, command: Command) -> Result<()> {
    let report = root()?.join("target/nextest/wine/junit.xml");
    let _ = std::fs::remove_file(&report);
    let note = || Ok(std::fs::read_to_string(&report).map_or_else(|_| "no report".to_owned(), |text| counts(&text)));
    steps.run_with(name, Ok(command), note)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::forget_xtask;

    #[test]
    fn every_package_that_is_left_out_exists_and_no_other_is_for_linux_alone() {
        let mut tree = Command::new(env!("CARGO"));
        tree.args(["metadata", "--no-deps", "--offline", "--format-version", "1"]).current_dir(root().unwrap());
        forget_xtask(&mut tree);
        let text = String::from_utf8(tree.output().unwrap().stdout).unwrap();
        let named = |package: &str| text.contains(&format!("\"name\":\"{package}\""));
        for package in LINUX_ONLY.map(|(package, _)| package).into_iter().chain([WINDOW]) {
            assert!(named(package), "{package}");
        }
        // The workflow for machines of the other systems leaves out the same.
        let workflow = std::fs::read_to_string(root().unwrap().join(".github/workflows/ci.yml")).unwrap();
        assert!(workflow.contains(&format!("  PORTABLE: {}\n", selection())));
        assert!(!named("hamn-nobody"), "the negative control");
    }
}
