//! How much of the code asks which system it runs on: `cfg` lines outside the files of one system and `mod` lines. What one system alone does
//! belongs into its files; what is decided belongs into code that every system compiles.

use std::path::{Path, PathBuf};

/// At most so many lines of a thousand.
const MOST_PER_THOUSAND: f64 = 2.0;
/// Where code lies.
const FOLDERS: [&str; 3] = ["platform", "src-tauri", "tests"];
/// Names of files and directories that belong to one system, or (`apply`) hold nothing but such files.
const OF_ONE_SYSTEM: [&str; 6] = ["apply", "linux", "windows", "macos", "unix", "elsewhere"];
/// What makes a condition one about the system.
const SYSTEM_WORDS: [&str; 5] = ["target_os", "target_family", "unix", "windows", "target_env"];

fn rust_files(directory: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if !["target", "node_modules", "gen"].contains(&name.as_str()) {
                rust_files(&path, found);
            }
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
}

fn belongs_to_one_system(path: &Path) -> bool {
    path.iter().filter_map(|part| part.to_str()).any(|part| OF_ONE_SYSTEM.contains(&part.strip_suffix(".rs").unwrap_or(part)))
}

/// The words of a line's conditions, without text in quotes: `unix` in "unix:path=" is no condition.
fn asks_for_the_system(line: &str) -> bool {
    let line = line.trim_start();
    if line.starts_with("//") {
        return false;
    }
    let Some(at) = ["cfg(", "cfg!(", "cfg_attr("].iter().filter_map(|word| line.find(word)).min() else { return false };
    let condition = line.get(at..).unwrap_or_default();
    condition.split(|letter: char| !(letter.is_alphanumeric() || letter == '_')).any(|word| SYSTEM_WORDS.contains(&word))
}

/// True when the attribute at `index` stands above a `mod` line, perhaps with other attributes between.
fn above_mod(lines: &[&str], index: usize) -> bool {
    let below = lines.iter().skip(index).map(|line| line.trim());
    let mut rest = below.skip_while(|line| line.starts_with("#[") || line.is_empty() || line.starts_with("//"));
    let Some(line) = rest.next() else { return false };
    let line = line
        .strip_prefix("pub")
        .map_or(line, |line| line.strip_prefix("(crate)").or(line.strip_prefix("(super)")).unwrap_or(line));
    line.trim_start().starts_with("mod ")
}

fn asking_lines(text: &str) -> Vec<usize> {
    let lines: Vec<&str> = text.lines().collect();
    let asks = |(index, line): (usize, &&str)| (asks_for_the_system(line) && !above_mod(&lines, index)).then_some(index + 1);
    lines.iter().enumerate().filter_map(asks).collect()
}

#[test]
fn few_lines_ask_which_system_they_run_on() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let (mut files, mut all, mut asking) = (Vec::new(), 0_usize, Vec::new());
    for folder in FOLDERS {
        rust_files(&root.join(folder), &mut files);
    }
    for path in &files {
        let text = std::fs::read_to_string(path).expect("a source file");
        all += text.lines().count();
        let name = path.strip_prefix(&root).expect("below the root");
        if !belongs_to_one_system(name) {
            asking.extend(asking_lines(&text).into_iter().map(|line| format!("{}:{line}", name.display())));
        }
    }
    assert!(
        files.len() > 300 && all > 50_000,
        "the sources are not where they are looked for: {} files, {all} lines",
        files.len()
    );
    let share =
        f64::from(u32::try_from(asking.len()).expect("a count")) * 1000.0 / f64::from(u32::try_from(all).expect("a count"));
    println!("{} lines of {all} in {} files ask which system they run on: {share:.2} per thousand", asking.len(), files.len());
    println!("{}", asking.join("\n"));
    assert!(share <= MOST_PER_THOUSAND, "{share:.2} per thousand, at most {MOST_PER_THOUSAND}");
}

#[test]
fn conditions_are_told_from_other_lines() {
    assert_eq!(asking_lines("#[cfg(unix)]\nfn x() {}\n"), [1]);
    assert_eq!(asking_lines("#![cfg(target_os = \"linux\")]\n"), [1]);
    assert_eq!(asking_lines("    if cfg!(windows) { 1 } else { 2 };\n"), [1]);
    assert_eq!(asking_lines("fn x() {}\n#[cfg(all(test, target_os = \"linux\"))]\nuse y;\n"), [2]);
    for free in [
        "#[cfg(windows)]\n#[path = \"x/windows.rs\"]\nmod x;\n",
        "#[cfg(target_os = \"linux\")]\npub(crate) mod x;\n",
        "#[cfg(all(test, unix))]\npub mod x;\n",
        "#[cfg(test)]\nfn x() {}\n",
        "// #[cfg(unix)]\nfn x() {}\n",
        "let bus = \"unix:path=/run\";\n",
    ] {
        assert_eq!(asking_lines(free), [0_usize; 0], "{free}");
    }
    assert!(belongs_to_one_system(Path::new("platform/network/src/dns/apply/mod.rs")));
    assert!(belongs_to_one_system(Path::new("platform/api/src/cache/windows.rs")));
    assert!(!belongs_to_one_system(Path::new("platform/network/src/lib.rs")));
}
