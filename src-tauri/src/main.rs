//! `hamn-gui`: the window of Hamn. Everything is in the library beside it.
#![cfg_attr(not(debug_assertions), windows_subsystem = "windows")]

fn main() -> std::process::ExitCode {
    hamn_window::main()
}
