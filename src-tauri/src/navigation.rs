//! Where the page may go: nowhere. The only document is the one inside the program.

use tauri::Url;

/// True for the program's own page.
#[must_use]
pub fn is_own(url: &Url) -> bool {
    let plain = url.port().is_none() && url.username().is_empty() && url.password().is_none();
    match (url.scheme(), url.host_str()) {
        ("tauri", Some("localhost")) => plain,
        // The web view of Windows has no schemes of programs.
        ("http" | "https", Some("tauri.localhost")) => plain && cfg!(windows),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_own_page_may_be_shown() {
        for own in ["tauri://localhost", "tauri://localhost/", "tauri://localhost/index.html#x"] {
            assert!(is_own(&own.parse().unwrap()), "{own}");
        }
        for other in [
            "https://example.com/",
            "http://tauri.localhost/",
            "http://localhost/",
            "tauri://example.com/",
            "tauri://localhost.example.com/",
            "tauri://localhost:80/",
            "tauri://a@localhost/",
            "file:///etc/passwd",
            "data:text/html,x",
            "javascript:alert(1)",
            "about:blank",
            "about:srcdoc",
            "blob:tauri://localhost/1",
            "ipc://localhost/connect",
            "hamn://connect/se",
        ] {
            assert!(!is_own(&other.parse().unwrap()), "{other}");
        }
    }
}
