// The one list of the commands that the page may call. The build script makes a permission of each name, `lib.rs` the
// handler, and a test compares both with `capabilities/main.json`.
macro_rules! with_commands {
    ($take:ident) => {
        $take! {
            link, connect, disconnect, reconnect,
            servers, login, logout, account,
            devices, remove_device, rotate_key,
            profiles, import_profile, remove_profile,
            settings, change_settings, reset_settings,
            policy, verify, diagnose, log, report, restore_network,
            versions, preferences, change_preferences,
            save_report, save_settings,
            speak, ready, show_window, quit
        }
    };
}
