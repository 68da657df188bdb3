//! A server of files on loopback, a client that writes HTTP by hand, and a clock that the test turns.
#![allow(dead_code, reason = "each test file uses what it needs")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::header;
use axum::middleware::{self, Next};
use axum::response::Response;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use veche_access::{Grants, GrantsClaim, Identity};
use veche_doors::{Error, ErrorKind};
use veche_files::http::{Announcement, Published, Publisher};
use veche_files::{Clock, FileSettings, Files};
use veche_storage::{Database, StorageSettings};

/// When the tests begin.
pub const START: i64 = 1_795_000_000_000;
pub const HOUR: i64 = 3600 * 1000;

/// A PNG as far as anybody looks.
pub const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR and so on";

pub struct Server {
    pub address: SocketAddr,
    pub files: Files,
    pub database: Database,
    pub clock: Arc<AtomicI64>,
    /// What was announced.
    pub told: Arc<Mutex<Vec<Announcement>>>,
    folder: Arc<tempfile::TempDir>,
    task: tokio::task::JoinHandle<()>,
}

/// An answer: its status, its headers in small letters, its body.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Server {
    pub async fn start(settings: FileSettings) -> Self {
        Self::start_in(settings, Arc::new(tempfile::tempdir().unwrap()), Arc::new(AtomicI64::new(START)))
            .await
    }

    async fn start_in(settings: FileSettings, folder: Arc<tempfile::TempDir>, clock: Arc<AtomicI64>) -> Self {
        let database = Database::open(&StorageSettings::default(), folder.path()).await.unwrap();
        let turned = Arc::clone(&clock);
        let now = Clock::new(move || turned.load(Ordering::Relaxed));
        let files = Files::open(settings, folder.path(), database.clone(), now).await.unwrap();
        let told = Arc::new(Mutex::new(Vec::new()));
        let (routes, _) = veche_files::http::routes::<()>(files.clone(), publisher(&told)).split_for_parts();
        let routes = routes.layer(middleware::from_fn(identify));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(serve(listener, routes));
        Self { address, files, database, clock, told, folder, task }
    }

    /// Ends this server as a crash does, as far as files are concerned, and starts the next in its folder.
    pub async fn restart(self, settings: FileSettings) -> Self {
        self.task.abort();
        let _ = self.task.await;
        self.database.close().await;
        let (folder, clock) = (Arc::clone(&self.folder), Arc::clone(&self.clock));
        drop(self.files);
        drop(self.database);
        Self::start_in(settings, folder, clock).await
    }

    pub fn data_dir(&self) -> &Path {
        self.folder.path()
    }

    pub fn pass(&self, milliseconds: i64) {
        self.clock.fetch_add(milliseconds, Ordering::Relaxed);
    }

    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// One request by somebody (empty: nobody) on a connection of its own.
    pub async fn request(
        &self,
        who: &str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut stream = self.connect().await;
        stream.write_all(head(who, method, path, headers, Some(body.len() as u64)).as_bytes()).await.unwrap();
        // The server may answer and close before it has read everything.
        let _ = stream.write_all(body).await;
        read_answer(&mut stream, method).await
    }

    pub async fn get(&self, who: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.request(who, "GET", path, headers, b"").await
    }

    /// Uploads by a form; `fields` come behind the file, as curl sends them.
    pub async fn upload(
        &self,
        who: &str,
        filename: &str,
        content_type: &str,
        content: &[u8],
        fields: &[(&str, &str)],
    ) -> Answer {
        let body = form(filename, content_type, content, fields);
        let headers = [("content-type", "multipart/form-data; boundary=bound")];
        self.request(who, "POST", "/realtime/binary/upload", &headers, &body).await
    }

    /// All files below a folder of the data folder, by their names.
    pub fn on_disk(&self, folder: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.data_dir().join("files").join(folder)];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() { folders.push(path) } else { found.push(path) }
            }
        }
        found
    }

    /// Waits until something is so that no message tells of.
    pub async fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let waiting = async {
            while !is_so() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), waiting)
            .await
            .unwrap_or_else(|_| panic!("never: {what}"));
    }
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// The code of an error; panics where it has none.
    pub fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap().to_owned()
    }

    /// The path and query of the uploaded file.
    pub fn url(&self) -> String {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        self.json()["file"]["url"].as_str().unwrap().to_owned()
    }

    /// The path of the uploaded file, without a signature.
    pub fn path(&self) -> String {
        self.url().split('?').next().unwrap().to_owned()
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

pub fn settings() -> FileSettings {
    FileSettings { allowed_types: vec!["*/*".into()], ..FileSettings::default() }
}

pub fn form(filename: &str, content_type: &str, content: &[u8], fields: &[(&str, &str)]) -> Vec<u8> {
    let mut body = form_beginning(filename, content_type);
    body.extend_from_slice(content);
    body.extend_from_slice(&form_end(fields));
    body
}

pub fn form_beginning(filename: &str, content_type: &str) -> Vec<u8> {
    format!(
        "--bound\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{filename}\"\r\nContent-Type: {content_type}\r\n\r\n"
    )
    .into_bytes()
}

pub fn form_end(fields: &[(&str, &str)]) -> Vec<u8> {
    let field = |(name, value): &(&str, &str)| {
        format!("\r\n--bound\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}")
    };
    let fields: String = fields.iter().map(field).collect();
    format!("{fields}\r\n--bound--\r\n").into_bytes()
}

/// The head of a request; without a length its body is chunked.
pub fn head(who: &str, method: &str, path: &str, headers: &[(&str, &str)], length: Option<u64>) -> String {
    let mut lines = vec![format!("{method} {path} HTTP/1.1")];
    lines.extend(["host: localhost".to_owned(), "connection: close".to_owned()]);
    if !who.is_empty() {
        lines.push(format!("authorization: Bearer {who}"));
    }
    lines.push(match length {
        Some(length) => format!("content-length: {length}"),
        None => "transfer-encoding: chunked".to_owned(),
    });
    lines.extend(headers.iter().map(|(name, value)| format!("{name}: {value}")));
    lines.join("\r\n") + "\r\n\r\n"
}

pub async fn read_answer(stream: &mut TcpStream, method: &str) -> Answer {
    let mut bytes = Vec::new();
    let reading = stream.read_to_end(&mut bytes);
    let _ = tokio::time::timeout(Duration::from_secs(20), reading).await.expect("an answer within 20 s");
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("an answer with a head");
    let text = std::str::from_utf8(&bytes[..end]).unwrap();
    let mut lines = text.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: Vec<_> = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let mut answer = Answer { status, headers, body: bytes[end + 4..].to_vec() };
    if answer.header("transfer-encoding") == Some("chunked") {
        answer.body = unchunked(&answer.body);
    } else if let Some(length) = answer.header("content-length").filter(|_| method != "HEAD") {
        assert_eq!(answer.body.len().to_string(), length, "the body is as long as its head says");
    }
    answer
}

fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    loop {
        let end = body.windows(2).position(|window| window == b"\r\n").expect("a chunk's size");
        let size = usize::from_str_radix(std::str::from_utf8(&body[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            return content;
        }
        content.extend_from_slice(&body[end + 2..end + 2 + size]);
        body = &body[end + 4 + size..];
    }
}

/// Who has the usual grants of a user; `admin` may do everything, `nobody` nothing.
pub fn identity(who: &str) -> Identity {
    let mut identity = Identity::anonymous(who == "admin");
    identity.user_id = Some(who.into());
    if who != "admin" && who != "nobody" {
        identity.grants = Arc::new(Grants::new(&GrantsClaim::usual(), Some(who)));
    }
    identity
}

async fn identify(mut request: Request, next: Next) -> Response {
    let token = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if let Some(who) = token.and_then(|token| token.strip_prefix("Bearer ")).map(str::to_owned) {
        request.extensions_mut().insert(identity(&who));
    }
    next.run(request).await
}

fn publisher(told: &Arc<Mutex<Vec<Announcement>>>) -> Publisher {
    let told = Arc::clone(told);
    Publisher {
        check_channel: |channel| {
            let message = "no name of a channel";
            let is_name = !channel.is_empty() && !channel.contains(' ');
            is_name.then_some(()).ok_or_else(|| Error::new(ErrorKind::BadChannel, message))
        },
        announce: Arc::new(move |announcement| {
            let told = Arc::clone(&told);
            Box::pin(async move {
                if announcement.channel.as_deref() == Some("full") {
                    return Err(Error::new(ErrorKind::TooManyChannels, "no more"));
                }
                let mut told = told.lock();
                told.push(announcement);
                let (message_id, epoch) = (format!("msg_{}", told.len()), Some("0badcafe".to_owned()));
                Ok(Published { message_id, epoch, offset: Some(told.len() as u64), recipients: 3 })
            })
        }),
    }
}

async fn serve(listener: TcpListener, routes: Router) {
    axum::serve(listener, routes).await.unwrap();
}
