//! Where the page may go: nowhere. The only document is the one inside the program.

#[cfg(not(windows))]
#[path = "navigation/elsewhere.rs"]
mod own;
#[cfg(windows)]
#[path = "navigation/windows.rs"]
mod own;

use tauri::Url;

/// True for the program's own page.
#[must_use]
pub fn is_own(url: &Url) -> bool {
    let plain = url.port().is_none() && url.username().is_empty() && url.password().is_none();
    plain && (url.scheme(), url.host_str()) == (own::SCHEME, Some(own::HOST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_own_page_may_be_shown() {
        let origin = format!("{}://{}", own::SCHEME, own::HOST);
        for own in ["", "/", "/index.html#x"] {
            let own = format!("{origin}{own}");
            assert!(is_own(&own.parse().unwrap()), "{own}");
        }
        for other in [
            "https://example.com/",
            "https://tauri.localhost/",
            own::FOREIGN,
            "http://localhost/",
            "tauri://example.com/",
            "tauri://localhost.example.com/",
            "http://tauri.localhost.example.com/",
            "file:///etc/passwd",
            "data:text/html,x",
            "javascript:alert(1)",
            "about:blank",
            "about:srcdoc",
            "blob:tauri://localhost/1",
            "ipc://localhost/connect",
            "hamn://connect/se",
            &format!("{origin}:81/"),
            &format!("{}://a@{}/", own::SCHEME, own::HOST),
        ] {
            assert!(!is_own(&other.parse().unwrap()), "{other}");
        }
    }
}
