//! What pages have in common.

/// What pages may load, and whom they may be part of.
pub(crate) const CONTENT_POLICY: &str = "default-src 'self'; img-src data:; \
    script-src 'unsafe-inline'; style-src 'unsafe-inline'; form-action 'self'; \
    frame-ancestors 'none'; base-uri 'none'";

/// What a stranger wrote is text, and never a part of the page.
#[cfg_attr(not(feature = "db"), expect(dead_code, reason = "no other page has a stranger's text"))]
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            _ => escaped.push(c),
        }
    }
    escaped
}
