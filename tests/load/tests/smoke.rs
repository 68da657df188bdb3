//! The tool against the server in this process: what it says is what happened, and what does not hold is no success.

use std::future::IntoFuture;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use veche_sfu::{Sfu, SfuConfig};
use veche_signaling::{Authority, Media, Settings, Signaling};

/// A server on loopback, on ports that the system chooses.
struct Server {
    address: SocketAddr,
    _runtime: Runtime,
    _sfu: Sfu,
}

impl Server {
    fn start() -> Self {
        let runtime = Runtime::new().unwrap();
        let settings = Settings::default();
        let config = SfuConfig {
            max_data_message: settings.max_data_message_bytes as usize,
            ..SfuConfig::on_loopback(1)
        };
        let sfu = veche_sfu::start(config).unwrap();
        let address = runtime.block_on(async {
            let media = Media::from(sfu.handle.clone());
            let (signaling, _) = Signaling::start(settings, media, sfu.events.clone(), Authority::open());
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let address = listener.local_addr().unwrap();
            tokio::spawn(axum::serve(listener, signaling.router()).into_future());
            address
        });
        Self { address, _runtime: runtime, _sfu: sfu }
    }

    /// Runs the tool with these arguments, of which spaces part one from the next.
    fn load(&self, arguments: &str) -> (Output, Value) {
        let server = format!("http://{}", self.address);
        let pid = std::process::id().to_string();
        let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_veche-load")));
        command.args(["--server", &server, "--json", "--quiet", "--pid", &pid]).args(arguments.split(' '));
        let output = command.output().unwrap();
        let report = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (output, report)
    }
}

fn number(report: &Value, name: &str) -> f64 {
    report[name].as_f64().unwrap_or_else(|| panic!("{name} in {report:#}"))
}

/// Without congestion control, which on a busy machine may rightly leave something out.
#[test]
fn five_who_watch_one_get_all_of_it() {
    let server = Server::start();
    let (output, report) = server.load(
        "--publishers 1 --subscribers 5 --tracks both --frame-packets 3 --duration 3s --warmup 1s --feedback none \
         --expect loss<=0 --expect delivered>=99% --expect ttff<=10s --expect p50<=1s --expect frameless<=0 \
         --expect playing>=100%",
    );
    assert_eq!(output.status.code(), Some(0), "{}\n{report:#}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(report["streams"], 10);
    // Three seconds of 30 frames with 3 packets and of 50 packets of sound, to each of 5.
    let packets = number(&report, "packets");
    assert!((packets - 3.0 * 140.0 * 5.0).abs() < 200.0, "{packets}");
    assert_eq!(report["per_second"].as_array().map(Vec::len), Some(3));
    let samples = number(&report, "delay_samples");
    assert!((samples - packets / 20.0).abs() < packets / 50.0, "{samples}");
    assert!(number(&report["delay_ms"], "p50") > 0.0);
    assert!(number(&report["server"], "memory_bytes") > 1e6);
}

#[test]
fn loss_is_seen_and_repaired_and_what_does_not_hold_is_no_success() {
    let server = Server::start();
    let (output, report) = server.load(
        "--participants 3 --frame-packets 2 --loss 5% --delay 5ms --impair all --duration 3s --warmup 1s \
         --expect gaps<=0",
    );
    assert_eq!(output.status.code(), Some(2), "gaps cannot be expected: {report:#}");
    let (output, report) = server.load(
        "--participants 3 --frame-packets 2 --loss 5% --delay 5ms --impair all --duration 3s --warmup 1s \
         --expect p50<=1ms",
    );
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    let [gaps, repaired, late] = ["gaps", "repaired", "late"].map(|name| number(&report, name));
    // What was lost on the way up comes late: the server has it repaired, and forwards it then.
    assert!(gaps > 10.0 && repaired > 0.2 * gaps && repaired + late > 0.8 * gaps, "{report:#}");
    assert!(number(&report["delay_ms"], "p50") >= 10.0, "both ways have their delay");
    let expectations = report["expectations"].as_array().unwrap();
    let held: Vec<bool> = expectations.iter().map(|held| held[1].as_bool().unwrap()).collect();
    assert_eq!(held, [false, true], "the delay, and that nobody failed");
}

#[test]
fn a_server_that_is_not_there_is_no_success() {
    // The port of a socket that nobody listens on.
    let socket = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    drop(socket);
    let command = Command::new(Path::new(env!("CARGO_BIN_EXE_veche-load")))
        .args(["--server", &format!("http://{address}"), "--subscribers", "1", "--publishers", "1"])
        .args(["--duration", "1s", "--warmup", "0s", "--quiet"])
        .output()
        .unwrap();
    assert_eq!(command.status.code(), Some(3), "everybody failed");
    let table = String::from_utf8_lossy(&command.stdout);
    let told = |line: &str| line.starts_with("DOES NOT HOLD") && line.ends_with("failed<=0");
    assert!(table.lines().any(told), "{table}");
}
