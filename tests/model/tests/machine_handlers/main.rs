//! Each transition of the machine as a small story: what happens, what is asked for, where it ends.

mod end_and_status;
mod failures;
mod start_and_commands;
mod story;
