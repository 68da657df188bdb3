//! Many WebSocket subscribers of one channel: they count what comes and how late it is. All of them are in one thread,
//! read into one buffer, and keep nothing of a message but its time stamp, so that they cost less than the server.

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use veche_load::histogram::Histogram;

use crate::cores;
use crate::frames::{Frame, FrameReader, TEXT, masked};

/// How many connect at the same time.
const CONNECTING: usize = 64;

/// How long one may take to connect.
const PATIENCE: Duration = Duration::from_secs(20);

/// Around the time stamp in a message.
pub const MARK: char = '@';

/// How a subscriber finds its channel.
#[derive(Clone, Debug)]
pub struct Way {
    /// Where the server listens.
    pub address: SocketAddr,
    /// What is asked for at the handshake.
    pub path: String,
    /// What is said after it, where the path does not say all.
    pub request: Option<String>,
    /// What the answer to that contains.
    pub answer: &'static str,
}

/// The subscribers, in a thread of their own.
#[derive(Debug)]
pub struct Listeners {
    thread: JoinHandle<anyhow::Result<Histogram>>,
    stop: oneshot::Sender<()>,
    received: Arc<AtomicU64>,
}

/// What the subscribers share.
#[derive(Debug)]
struct Shared {
    clock: Instant,
    delays: RefCell<Histogram>,
    received: Arc<AtomicU64>,
    buffer: RefCell<Vec<u8>>,
}

impl Listeners {
    /// Connects so many; returns when all of them are subscribed, and tells meanwhile how many are. Time stamps are
    /// nanoseconds since `clock`.
    ///
    /// # Errors
    /// When one of them cannot connect or subscribe.
    pub fn start(
        way: &Way,
        count: usize,
        on: &[usize],
        clock: Instant,
        tell: impl Fn(usize) + Send + 'static,
    ) -> anyhow::Result<Self> {
        let (ready, is_ready) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let received = Arc::new(AtomicU64::new(0));
        let shared = (way.clone(), on.to_vec(), received.clone());
        let thread = std::thread::spawn(move || {
            let (way, on, received) = shared;
            cores::pin(&on)?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let shared = Rc::new(Shared {
                clock,
                delays: RefCell::default(),
                received,
                buffer: RefCell::new(vec![0; 256 * 1024]),
            });
            let tasks = tokio::task::LocalSet::new();
            tasks.block_on(&runtime, async {
                let connected = connect_all(&way, count, &shared, tell).await;
                let is_connected = connected.is_ok();
                let _ = ready.send(connected);
                if is_connected {
                    let _ = stopped.await;
                }
            });
            Ok(shared.delays.take())
        });
        is_ready.recv().context("the subscribers have ended")??;
        Ok(Self { thread, stop, received })
    }

    /// How many messages have come, to all of them together.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Ends all of them; how late the messages were.
    ///
    /// # Errors
    /// When their thread had failed.
    pub fn stop(self) -> anyhow::Result<Histogram> {
        let _ = self.stop.send(());
        self.thread.join().map_err(|_| anyhow::anyhow!("the subscribers' thread has panicked"))?
    }
}

async fn connect_all(
    way: &Way,
    count: usize,
    shared: &Rc<Shared>,
    tell: impl Fn(usize) + 'static,
) -> anyhow::Result<()> {
    let (left, connected) = (Rc::new(Cell::new(count)), Rc::new(Cell::new(0)));
    let tell = Rc::new(tell);
    let mut connecting = tokio::task::JoinSet::new();
    for _ in 0..CONNECTING.min(count) {
        let (way, left, shared) = (way.clone(), left.clone(), shared.clone());
        let (connected, tell) = (connected.clone(), tell.clone());
        connecting.spawn_local(async move {
            while let Some(less) = left.get().checked_sub(1) {
                left.set(less);
                let subscribed = tokio::time::timeout(PATIENCE, subscribe(&way));
                let (stream, reader) = subscribed.await.context("a subscriber waits for its answer")??;
                tokio::task::spawn_local(listen(stream, reader, shared.clone()));
                connected.set(connected.get() + 1);
                tell(connected.get());
            }
            anyhow::Ok(())
        });
    }
    while let Some(connected) = connecting.join_next().await {
        connected??;
    }
    Ok(())
}

/// The handshake of RFC 6455, section 4.1. The key need not be random: no cache stands between.
async fn subscribe(way: &Way) -> anyhow::Result<(TcpStream, FrameReader)> {
    let mut stream = TcpStream::connect(way.address).await?;
    stream.set_nodelay(true)?;
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        way.path, way.address
    );
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    let end = loop {
        if let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if read_more(&stream, &mut head).await? == 0 || head.len() > 16 * 1024 {
            bail!("the handshake is not answered");
        }
    };
    if !head.starts_with(b"HTTP/1.1 101") {
        bail!("the handshake is refused: {}", String::from_utf8_lossy(&head[..end]).trim());
    }
    let mut reader = FrameReader::default();
    let mut bytes = head.split_off(end);
    let Some(request) = &way.request else {
        reader.take(&bytes, |_| {});
        return Ok((stream, reader));
    };
    stream.write_all(&masked(TEXT, request.as_bytes())).await?;
    let mut is_answered = false;
    loop {
        reader.take(&bytes, |frame| is_answered |= contains(frame.payload, way.answer.as_bytes()));
        if is_answered {
            return Ok((stream, reader));
        }
        bytes.clear();
        if read_more(&stream, &mut bytes).await? == 0 {
            bail!("the server ends the connection before it answers");
        }
    }
}

async fn read_more(stream: &TcpStream, into: &mut Vec<u8>) -> io::Result<usize> {
    loop {
        stream.readable().await?;
        match stream.try_read_buf(into) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            read => return read,
        }
    }
}

/// Reads until the server ends the connection: what does not come any more is missing in the count.
async fn listen(stream: TcpStream, mut reader: FrameReader, shared: Rc<Shared>) {
    while stream.readable().await.is_ok() {
        let mut buffer = shared.buffer.borrow_mut();
        let read = match stream.try_read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(_) => return,
        };
        let now = shared.clock.elapsed();
        let mut delays = shared.delays.borrow_mut();
        let mut messages = 0;
        let mut is_pinged = false;
        reader.take(&buffer[..read], |frame: Frame<'_>| {
            is_pinged |= frame.is_ping();
            if let Some(sent) = stamp(frame.payload) {
                delays.record(now.saturating_sub(Duration::from_nanos(sent)));
                messages += 1;
            }
        });
        shared.received.fetch_add(messages, Ordering::Relaxed);
        if is_pinged {
            // It fits a socket that nothing else is written to.
            let _ = stream.try_write(&masked(crate::frames::PONG, b""));
        }
    }
}

/// The digits between the marks.
fn stamp(payload: &[u8]) -> Option<u64> {
    let mark = MARK as u8;
    let begin = payload.iter().position(|byte| *byte == mark)? + 1;
    let length = payload[begin..].iter().position(|byte| *byte == mark)?;
    std::str::from_utf8(&payload[begin..begin + length]).ok()?.parse().ok()
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_what_stands_between_the_marks() {
        assert_eq!(stamp(br#"{"data":"@12345@ and more"}"#), Some(12_345));
        assert_eq!(stamp(b"@12a@"), None);
        assert_eq!(stamp(b"@12"), None);
        assert_eq!(stamp(b""), None);
    }
}
