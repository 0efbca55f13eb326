//! Texts that a hostile provider, account or network could send: the window must show each as text, whatever it is.

const MARKS: [&str; 18] = [
    "<script>window.pwned=1</script>",
    "<img src=x onerror=\"window.pwned=1\">",
    "<svg onload=\"window.pwned=1\">",
    "\"><iframe srcdoc=\"<script>parent.pwned=1</script>\">",
    "javascript:window.pwned=1",
    "{{constructor.constructor(\"window.pwned=1\")()}}",
    "${window.pwned=1}",
    "</style><style>*{display:none}</style>",
    "</title><script>window.pwned=1</script>",
    "&lt;b&gt;bold&lt;/b&gt;",
    "\u{202e}gnp.exe\u{202c}",
    "\u{1b}[31mred",
    "%s%n%x",
    "../../../etc/passwd",
    "لا إله \u{2067}x\u{2069}",
    "𝕿𝖊𝖘𝖙 \u{1f3f4}\u{200d}\u{2620}\u{fe0f}",
    "\u{200b}\u{200b}\u{200b}",
    "<a href=\"https://evil.example\" target=_blank>click</a>",
];

/// This many texts, all different.
#[must_use]
pub fn texts(count: usize) -> Vec<String> {
    let dressings = ["", "\"", "'", "<", ">", "&", "`", "="];
    let dress = |number: usize| {
        let (mark, round) = (MARKS[number % MARKS.len()], number / MARKS.len());
        if round == 0 { mark.to_owned() } else { format!("{}{mark}{round}", dressings[round % dressings.len()]) }
    };
    let mut all: Vec<String> = (0..count).map(dress).collect();
    if let Some(last) = all.last_mut() {
        *last = "a".repeat(500);
    }
    all
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_thousand_are_all_different() {
        let texts = super::texts(1000);
        let different: std::collections::BTreeSet<&String> = texts.iter().collect();
        assert_eq!((texts.len(), different.len()), (1000, 1000));
    }
}
