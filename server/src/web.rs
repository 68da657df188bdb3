//! The web client, built into the binary, with the headers that keep it and its users safe.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::io::Write;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

/// Built by `npm run build` in `web/app` and committed.
#[derive(rust_embed::RustEmbed)]
#[folder = "../web/app/dist"]
#[allow_missing = true]
struct Dist;

/// The page about the HTTP API and that of a room's cameras, with their scripts.
const PLAIN: [(&str, &str); 4] = [
    ("cameras.html", include_str!("cameras/cameras.html")),
    ("cameras.js", include_str!("cameras/cameras.js")),
    ("docs.html", include_str!("docs/docs.html")),
    ("docs.js", include_str!("docs/docs.js")),
];

/// What is shown where the client has not been built.
const NOT_BUILT: &str = "<!doctype html><meta charset=utf-8><title>Veche</title>\
    <p>Veche is running, but its web client has not been built: run <code>make web</code> and build again.</p>";

/// Vite gives these names with a digest of their content.
const HASHED_FOLDER: &str = "assets/";

/// Where a call's page is: `/r/ROOM`.
const ROOM_FOLDER: &str = "r/";

/// Where the HTTP API is, and among it the pages to try it.
const API_FOLDER: &str = "realtime/";

/// What pages may ask of the browser.
const PERMISSIONS: &str = "camera=(self), microphone=(self), display-capture=(self), autoplay=(self), \
    fullscreen=(self), picture-in-picture=(self), screen-wake-lock=(self), speaker-selection=(self), \
    geolocation=(), payment=(), usb=()";

#[derive(Clone)]
struct Web {
    assets: Arc<HashMap<String, Asset>>,
    frame_ancestors: Arc<str>,
}

struct Asset {
    body: Bytes,
    /// Where that is smaller.
    gzipped: Option<Bytes>,
    content_type: HeaderValue,
    etag: HeaderValue,
    cache_control: HeaderValue,
    is_page: bool,
}

/// Serves the client at `/` and at `/r/ROOM`, the page that finds out why somebody cannot get in at `/doctor`, the page about
/// the HTTP API at `/docs`, a room's cameras at `/cameras`, pages to try it below `/realtime`, and whatever nobody else answers.
pub(crate) fn router(frame_ancestors: &str) -> Router {
    let mut assets: HashMap<_, _> = Dist::iter()
        .filter_map(|path| Some((path.to_string(), Asset::new(&path, Dist::get(&path)?.data.to_vec()))))
        .collect();
    assets
        .entry("index.html".to_owned())
        .or_insert_with(|| Asset::new("index.html", NOT_BUILT.as_bytes().to_vec()));
    assets.extend(PLAIN.map(|(path, text)| (path.to_owned(), Asset::new(path, text.into()))));
    // What is below `/realtime` and not named here is the API's.
    let pages = ["realtime/test", "realtime/sse-test"].map(str::to_owned);
    let named = pages.into_iter().chain(assets.keys().filter(|path| path.starts_with(API_FOLDER)).cloned());
    let named: Vec<String> = named.collect();
    let web = Web { assets: Arc::new(assets), frame_ancestors: frame_ancestors.into() };
    let routes =
        named.iter().fold(Router::new(), |routes, path| routes.route(&format!("/{path}"), any(serve)));
    routes.fallback(serve).with_state(web)
}

async fn serve(State(web): State<Web>, method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path().trim_start_matches('/');
    let is_room =
        path.strip_prefix(ROOM_FOLDER).is_some_and(|room| !room.trim_end_matches('/').contains('/'));
    let name = match path {
        "" => "index.html",
        "cameras" => "cameras.html",
        "docs" => "docs.html",
        "doctor" => "doctor.html",
        "realtime/test" => "realtime/test.html",
        "realtime/sse-test" => "realtime/sse-test.html",
        _ if is_room => "index.html",
        _ => path,
    };
    let mut response = match (method, web.assets.get(name)) {
        (Method::GET | Method::HEAD, Some(asset)) => asset.respond(&headers),
        (_, Some(_)) => {
            let allow = [(header::ALLOW, "GET, HEAD")];
            (StatusCode::METHOD_NOT_ALLOWED, allow, problem("method_not_allowed", "GET or HEAD it"))
                .into_response()
        }
        (_, None) => {
            (StatusCode::NOT_FOUND, problem("not_found", "nothing is at this address")).into_response()
        }
    };
    if web.assets.get(name).is_some_and(|asset| asset.is_page) {
        // HTTP/2 has the host in the address.
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let host = host.or_else(|| uri.authority().map(Authority::as_str));
        let policy = content_security_policy(host, &web.frame_ancestors);
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
        let permissions = HeaderValue::from_static(PERMISSIONS);
        response.headers_mut().insert(HeaderName::from_static("permissions-policy"), permissions);
        response.headers_mut().insert(
            HeaderName::from_static("cross-origin-opener-policy"),
            HeaderValue::from_static("same-origin"),
        );
    }
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

impl Asset {
    fn new(path: &str, body: Vec<u8>) -> Self {
        let content_type = content_type(path);
        let mut hasher = DefaultHasher::new();
        body.hash(&mut hasher);
        let etag = format!("\"{:016x}\"", hasher.finish());
        let is_hashed = path.starts_with(HASHED_FOLDER);
        let cache_control = if is_hashed { "public, max-age=31536000, immutable" } else { "no-cache" };
        Self {
            gzipped: gzip(&body),
            body: body.into(),
            content_type: HeaderValue::from_static(content_type),
            etag: HeaderValue::from_str(&etag).expect("hexadecimal digits fit a header"),
            cache_control: HeaderValue::from_static(cache_control),
            is_page: content_type.starts_with("text/html"),
        }
    }

    fn respond(&self, request: &HeaderMap) -> Response {
        let common = [
            (header::ETAG, self.etag.clone()),
            (header::CACHE_CONTROL, self.cache_control.clone()),
            (header::VARY, HeaderValue::from_static("accept-encoding")),
        ];
        let known = request.get(header::IF_NONE_MATCH).and_then(|tag| tag.to_str().ok()).unwrap_or_default();
        if known.split(',').any(|tag| tag.trim().trim_start_matches("W/").as_bytes() == self.etag.as_bytes())
        {
            return (StatusCode::NOT_MODIFIED, common).into_response();
        }
        let accepted = request.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
        let takes_gzip = accepted.unwrap_or_default().split(',').any(|coding| coding.trim() == "gzip");
        let content_type = [(header::CONTENT_TYPE, self.content_type.clone())];
        match &self.gzipped {
            Some(gzipped) if takes_gzip => {
                let encoding = [(header::CONTENT_ENCODING, "gzip")];
                (common, content_type, encoding, gzipped.clone()).into_response()
            }
            _ => (common, content_type, self.body.clone()).into_response(),
        }
    }
}

/// Scripts and connections of this server only. Browsers differ in whether `'self'` covers WebSockets, so they are
/// named with the host that the client itself uses.
fn content_security_policy(host: Option<&str>, frame_ancestors: &str) -> HeaderValue {
    let is_safe = |host: &&str| host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b));
    let host = host.filter(is_safe);
    let sockets = host.map(|host| format!(" ws://{host} wss://{host}")).unwrap_or_default();
    let policy = format!(
        "default-src 'self'; connect-src 'self'{sockets}; img-src 'self' data: blob:; media-src 'self' blob: data:; \
         style-src 'self' 'unsafe-inline'; worker-src 'self' blob:; object-src 'none'; base-uri 'none'; \
         form-action 'self'; frame-ancestors {frame_ancestors}"
    );
    HeaderValue::from_str(&policy).expect("the host and frame_ancestors were checked")
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "mp3" => "audio/mpeg",
        "ogg" => "audio/ogg",
        "wasm" => "application/wasm",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

fn gzip(body: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).ok()?;
    let gzipped = encoder.finish().ok()?;
    (gzipped.len() < body.len()).then(|| gzipped.into())
}

fn problem(code: &str, message: &str) -> axum::Json<serde_json::Value> {
    axum::Json(serde_json::json!({ "error": { "code": code, "message": message } }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn web() -> Web {
        let assets = [
            ("index.html", "<p>hello"),
            ("doctor.html", "<p>let us see"),
            ("assets/app-1a2b.js", &"let a;".repeat(100)),
        ];
        let assets = assets.map(|(path, body)| (path.to_owned(), Asset::new(path, body.into())));
        Web { assets: Arc::new(assets.into()), frame_ancestors: "'none'".into() }
    }

    async fn get(path: &'static str, headers: &[(HeaderName, &'static str)]) -> Response {
        let headers = headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
        serve(State(web()), Method::GET, Uri::from_static(path), headers.collect()).await
    }

    #[tokio::test]
    async fn the_page_is_served_for_rooms_with_safe_headers_and_always_asked_for() {
        for path in ["/", "/r/tea", "/r/%D1%87%D0%B0%D0%B9", "/index.html", "/doctor", "/doctor?room=tea"] {
            let page = get(path, &[(header::HOST, "veche.example:8443")]).await;
            assert_eq!(page.status(), StatusCode::OK, "{path}");
            assert_eq!(page.headers()[header::CACHE_CONTROL], "no-cache");
            let policy = page.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
            assert!(policy.contains("connect-src 'self' ws://veche.example:8443 wss://veche.example:8443;"));
            assert!(policy.ends_with("frame-ancestors 'none'"));
            assert!(page.headers()["permissions-policy"].to_str().unwrap().contains("camera=(self)"));
            assert_eq!(page.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        }
        let odd = get("/", &[(header::HOST, "a;script-src *")]).await;
        assert!(!odd.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().contains("script-src"));
    }

    #[tokio::test]
    async fn assets_are_kept_for_good_compressed_and_not_sent_twice() {
        let asset = get("/assets/app-1a2b.js", &[(header::ACCEPT_ENCODING, "br, gzip")]).await;
        assert_eq!(asset.headers()[header::CONTENT_TYPE], "text/javascript; charset=utf-8");
        assert!(asset.headers()[header::CACHE_CONTROL].to_str().unwrap().contains("immutable"));
        assert_eq!(asset.headers()[header::CONTENT_ENCODING], "gzip");
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_NONE_MATCH, asset.headers()[header::ETAG].clone());
        let again = serve(State(web()), Method::GET, Uri::from_static("/assets/app-1a2b.js"), headers).await;
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    }

    #[tokio::test]
    async fn what_is_not_there_is_a_json_error() {
        for path in ["/assets/none.js", "/r/a/b", "/../main.rs", "/r"] {
            assert_eq!(get(path, &[]).await.status(), StatusCode::NOT_FOUND, "{path}");
        }
        let posted = serve(State(web()), Method::POST, Uri::from_static("/"), HeaderMap::new()).await;
        assert_eq!(posted.status(), StatusCode::METHOD_NOT_ALLOWED);
    }
}
