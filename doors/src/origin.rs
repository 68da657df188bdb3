//! Which pages may use the server: those that it served itself, and those of configured origins.

use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Uri, header};

/// Whether a request may come from where it says it comes from. Programs that are no browsers send no `Origin`, and
/// may. The host that was asked is in a header, and with HTTP/2 in the address.
pub fn is_allowed(headers: &HeaderMap, uri: &Uri, allowed: &[String]) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let host = || headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = uri.authority().map(Authority::as_str).or_else(host);
    is_listed(origin, allowed) || is_same_host(origin, host)
}

/// Whether an origin is among the configured ones.
pub fn is_listed(origin: &HeaderValue, allowed: &[String]) -> bool {
    let is = |listed: &String| listed == "*" || origin.as_bytes().eq_ignore_ascii_case(listed.as_bytes());
    allowed.iter().any(is)
}

/// Whether a text is an origin (RFC 6454 section 6.2) of a web page.
pub fn is_origin(text: &str) -> bool {
    authority(text)
        .is_some_and(|authority| !authority.is_empty() && !authority.contains(['/', '?', '#', '@']))
}

fn is_same_host(origin: &HeaderValue, host: Option<&str>) -> bool {
    let (Ok(origin), Some(host)) = (origin.to_str(), host) else { return false };
    authority(origin).is_some_and(|authority| authority.eq_ignore_ascii_case(host))
}

fn authority(origin: &str) -> Option<&str> {
    origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(origin: Option<&'static str>, host: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static(host));
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
        }
        headers
    }

    #[test]
    fn same_host_listed_origins_and_programs_may_others_may_not() {
        let listed = ["https://app.example".to_owned()];
        let is_allowed = |headers: &HeaderMap, allowed: &[String]| {
            super::is_allowed(headers, &Uri::from_static("/realtime/ws"), allowed)
        };
        assert!(is_allowed(&headers(None, "veche.example"), &[]));
        assert!(is_allowed(&headers(Some("https://veche.example:8443"), "veche.example:8443"), &[]));
        assert!(is_allowed(&headers(Some("https://app.example"), "veche.example"), &listed));
        assert!(is_allowed(&headers(Some("https://other.example"), "veche.example"), &["*".to_owned()]));
        assert!(!is_allowed(&headers(Some("https://veche.example"), "veche.example:8443"), &[]));
        assert!(!is_allowed(&headers(Some("https://veche.example.evil.example"), "veche.example"), &listed));
        assert!(!is_allowed(&headers(Some("null"), "null"), &listed));
        let mut http2 = headers(Some("https://veche.example"), "other.example");
        http2.remove(header::HOST);
        let uri = Uri::from_static("https://veche.example/realtime/send");
        assert!(super::is_allowed(&http2, &uri, &[]));
        assert!(!super::is_allowed(&http2, &Uri::from_static("https://other.example/"), &[]));
    }

    #[test]
    fn origins_have_a_scheme_and_no_path() {
        assert!(is_origin("https://app.example"));
        assert!(is_origin("http://localhost:5173"));
        assert!(!is_origin("app.example"));
        assert!(!is_origin("https://app.example/"));
        assert!(!is_origin("https://"));
    }
}
