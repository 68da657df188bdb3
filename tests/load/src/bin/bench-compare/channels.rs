//! One channel with many WebSocket subscribers: Veche beside Nchan.

use std::fmt;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use veche_load::process::Usage;

use crate::cores;
use crate::listeners::{Listeners, MARK, Way};
use crate::measure::Bench;
use crate::progress::Progress;
use crate::servers::{Kind, Server};
use crate::table::{Table, grouped, percent};

/// Who is compared.
const SERVERS: [Kind; 2] = [Kind::Veche { workers: 1 }, Kind::Nchan];

/// The name of the channel.
const CHANNEL: &str = "bench";

/// How many bytes a message's text has: a line of a chat, a quote, a position.
const MESSAGE_BYTES: usize = 200;

/// How long a server has to settle once all are subscribed, and to deliver what was published last.
const SETTLE: Duration = Duration::from_secs(1);
const LAST_WAIT: Duration = Duration::from_secs(10);

/// A load: so many subscribers, and so many messages a second for each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    subscribers: usize,
    /// Messages in a second.
    rate: u32,
}

impl FromStr for Load {
    type Err = String;

    /// `10000x1` is 10,000 subscribers who get one message a second.
    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('x').and_then(|(subscribers, rate)| {
            Some(Self { subscribers: subscribers.parse().ok()?, rate: rate.parse().ok()? })
        });
        parts
            .filter(|load| load.subscribers > 0 && load.rate > 0)
            .ok_or_else(|| "a load is SUBSCRIBERSxMESSAGES_PER_SECOND, for example 10000x1".to_owned())
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} subscribers, {}/s", grouped(self.subscribers as f64), self.rate)
    }
}

/// What came out of one measurement.
#[derive(Clone, Copy, Debug)]
struct Delivered {
    per_second: f64,
    per_cpu_second: f64,
    /// Of what should have come, what did not.
    lost: f64,
    p50: Duration,
    p99: Duration,
    /// Resident memory of the server for each subscriber, in bytes; the kernel's part is not in it.
    memory: f64,
}

/// A server that runs.
#[derive(Clone, Copy, Debug)]
struct Running {
    kind: Kind,
    address: SocketAddr,
    pid: u32,
}

/// Measures all loads on all servers, in turn, and prints the table.
pub fn compare(bench: &Bench, loads: &[Load], rounds: usize) {
    println!(
        "One channel, messages of {MESSAGE_BYTES} bytes, subscribers over WebSocket, published over HTTP:\n"
    );
    let mut best = vec![[None::<Delivered>; SERVERS.len()]; loads.len()];
    let mut bar = Progress::new(rounds * loads.len() * SERVERS.len());
    let mut measurements = 0;
    for round in 1..=rounds {
        for (load, best) in loads.iter().zip(&mut best) {
            for (kind, best) in SERVERS.iter().zip(best) {
                bar.begin(measurements, format!("{load}, {kind}"));
                measurements += 1;
                match start_and_measure(bench, *kind, *load, &bar) {
                    Ok(delivered) => {
                        bar.say(&format!("round {round}: {load}, {kind}: {delivered}"));
                        let better = |other: &Delivered| delivered.rank() > other.rank();
                        if best.as_ref().is_none_or(better) {
                            *best = Some(delivered);
                        }
                    }
                    Err(error) => bar.say(&format!("round {round}: {load}, {kind}: {error:#}")),
                }
            }
        }
    }
    bar.end();
    let headings =
        ["load", "server", "deliveries/s", "lost", "deliveries/CPU-s", "p50", "p99", "KB per subscriber"];
    let mut table = Table::new(&headings);
    for (load, best) in loads.iter().zip(&best) {
        for (kind, delivered) in SERVERS.iter().zip(best) {
            table.row(row(*load, *kind, delivered.as_ref()));
        }
    }
    println!("{}", table.print());
}

fn row(load: Load, kind: Kind, delivered: Option<&Delivered>) -> Vec<String> {
    let mut cells = vec![load.to_string(), kind.to_string()];
    match delivered {
        Some(d) => cells.extend([
            grouped(d.per_second),
            percent(d.lost),
            grouped(d.per_cpu_second),
            millis(d.p50),
            millis(d.p99),
            format!("{:.1}", d.memory / 1e3),
        ]),
        None => cells.push("failed".to_owned()),
    }
    cells
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

impl fmt::Display for Delivered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} deliveries/s, {} lost, {} per CPU-second, p50 {}, p99 {}, {:.1} KB per subscriber",
            grouped(self.per_second),
            percent(self.lost),
            grouped(self.per_cpu_second),
            millis(self.p50),
            millis(self.p99),
            self.memory / 1e3
        )
    }
}

impl Delivered {
    /// Less lost is better, then less work.
    fn rank(&self) -> (i64, i64) {
        (-((self.lost * 1e6) as i64), self.per_cpu_second as i64)
    }
}

fn start_and_measure(bench: &Bench, kind: Kind, load: Load, bar: &Progress) -> anyhow::Result<Delivered> {
    let server = Server::start(kind, &bench.veche, &bench.server_cores)?;
    thread::sleep(SETTLE);
    measure(bench, Running { kind, address: server.address(), pid: server.pid() }, load, bar)
}

fn measure(bench: &Bench, server: Running, load: Load, bar: &Progress) -> anyhow::Result<Delivered> {
    let empty = Usage::of(server.pid)?;
    let clock = Instant::now();
    let connecting = bar.clone();
    let listeners =
        Listeners::start(&way(server), load.subscribers, &bench.load_cores, clock, move |connected| {
            connecting.connected(connected, load.subscribers);
        })?;
    thread::sleep(SETTLE);
    let before = Usage::of(server.pid)?;
    let messages = publish(server, load.rate, bench, clock, bar)?;
    let expected = messages * load.subscribers as u64;
    let deadline = Instant::now() + LAST_WAIT;
    while listeners.received() < expected && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(5));
    }
    let after = Usage::of(server.pid)?;
    let received = listeners.received();
    let delays = listeners.stop()?;
    let cpu = after.cpu.saturating_sub(before.cpu).as_secs_f64();
    Ok(Delivered {
        per_second: received as f64 / bench.seconds as f64,
        per_cpu_second: received as f64 / cpu.max(1e-3),
        lost: 1.0 - received as f64 / expected as f64,
        p50: delays.quantile(0.5).context("nothing was delivered")?,
        p99: delays.quantile(0.99).context("nothing was delivered")?,
        memory: before.memory.saturating_sub(empty.memory) as f64 / load.subscribers as f64,
    })
}

fn way(server: Running) -> Way {
    let Running { kind, address, .. } = server;
    if kind == Kind::Nchan {
        return Way { address, path: format!("/sub?id={CHANNEL}"), request: None, answer: "" };
    }
    let request = format!(r#"{{"type":"subscribe","channel":"{CHANNEL}"}}"#);
    Way { address, path: "/realtime/ws".to_owned(), request: Some(request), answer: r#""subscribed""# }
}

/// Publishes for as long as the measurement lasts, over one HTTP connection; gives how many messages.
fn publish(server: Running, rate: u32, bench: &Bench, clock: Instant, bar: &Progress) -> anyhow::Result<u64> {
    let bar = bar.clone();
    let on = bench.load_cores.clone();
    let messages = bench.seconds * u64::from(rate);
    let publisher = thread::spawn(move || {
        cores::pin(&on)?;
        let stream = TcpStream::connect(server.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut answers = BufReader::new(stream.try_clone()?);
        let began = Instant::now();
        for number in 0..messages {
            let due = began + Duration::from_secs(number) / rate;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            post(&stream, &mut answers, server.kind, clock)?;
            bar.published(number + 1, messages);
        }
        // The last message has its time too.
        let end = began + Duration::from_secs(messages) / rate;
        thread::sleep(end.saturating_duration_since(Instant::now()));
        anyhow::Ok(())
    });
    publisher.join().map_err(|_| anyhow::anyhow!("the publisher has panicked"))??;
    Ok(messages)
}

fn post(
    mut stream: &TcpStream,
    answers: &mut BufReader<TcpStream>,
    kind: Kind,
    clock: Instant,
) -> anyhow::Result<()> {
    let mut text = format!("{MARK}{}{MARK}", clock.elapsed().as_nanos());
    text.extend(std::iter::repeat_n('.', MESSAGE_BYTES - text.len()));
    let (path, content_type, body) = if kind == Kind::Nchan {
        (format!("/pub?id={CHANNEL}"), "text/plain", text)
    } else {
        let body = format!(r#"{{"channel":"{CHANNEL}","data":"{text}"}}"#);
        ("/realtime/send".to_owned(), "application/json", body)
    };
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes())?;
    read_answer(answers)
}

/// Reads one answer with a length.
fn read_answer(answers: &mut BufReader<TcpStream>) -> anyhow::Result<()> {
    let mut status = String::new();
    answers.read_line(&mut status)?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        answers.read_line(&mut line)?;
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
    }
    let mut body = vec![0; length];
    answers.read_exact(&mut body)?;
    if !status.starts_with("HTTP/1.1 20") {
        bail!("a message is refused: {} {}", status.trim(), String::from_utf8_lossy(&body).trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use veche_access::{AccessSettings, Authority};
    use veche_hub::HubSettings;
    use veche_messaging::{Messaging, Parts, Settings};

    use super::*;

    const LOAD: Load = Load { subscribers: 20, rate: 10 };

    fn bench() -> Bench {
        let cores = vec![0];
        let (veche, load) = Default::default();
        Bench { veche, load, server_cores: cores.clone(), load_cores: cores, seconds: 2 }
    }

    fn assert_all_came(delivered: Delivered) {
        // How fast they came is the machine's affair.
        assert!(delivered.lost.abs() < 1e-9 && delivered.per_second > 0.0, "{delivered}");
        assert!(delivered.p50 > Duration::ZERO && delivered.p99 >= delivered.p50);
        assert!(delivered.per_cpu_second > 0.0);
    }

    #[test]
    fn a_load_is_read_and_what_is_none_is_refused() {
        assert_eq!("20x10".parse(), Ok(LOAD));
        for wrong in ["", "20", "x10", "0x10", "20x0", "20x-1"] {
            assert!(wrong.parse::<Load>().unwrap_err().contains("10000x1"), "{wrong}");
        }
    }

    #[test]
    fn a_few_subscribers_of_veche_get_everything() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let address = runtime.block_on(async {
            let authority = Authority::new(&AccessSettings::default(), None).unwrap();
            let parts = Parts { channels: HubSettings::default(), authority, files: None, database: None };
            let messaging = Messaging::start(Settings::default(), parts).await.unwrap();
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let router = messaging.router().into_make_service_with_connect_info::<SocketAddr>();
            tokio::spawn(async move { axum::serve(listener, router).await });
            address
        });
        let running = Running { kind: Kind::Veche { workers: 1 }, address, pid: std::process::id() };
        assert_all_came(measure(&bench(), running, LOAD, &Progress::new(1)).unwrap());
    }

    #[test]
    fn a_few_subscribers_of_nchan_get_everything() {
        let delivered = start_and_measure(&bench(), Kind::Nchan, LOAD, &Progress::new(1)).unwrap();
        assert_all_came(delivered);
    }
}
