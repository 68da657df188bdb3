//! Stands between clients and a media server and makes the network bad. Ends when its standard input does.
//!
//! Prints `listening ADDRESS`, then one line for each command read from standard input: `ok`, `error: …`, or the
//! counters as JSON.

use std::io::{self, BufRead, Write};
use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use tokio::sync::mpsc;
use veche_testkit::network::LinkConfig;
use veche_testkit::proxy::{Command, Impairments, Proxy};

/// A UDP proxy that loses, delays and cuts.
#[derive(Parser)]
struct Arguments {
    /// Where clients come to; port 0 takes a free one.
    #[arg(long)]
    listen: SocketAddr,
    /// Where the server is.
    #[arg(long)]
    to: SocketAddr,
    /// The share of packets lost on the way to the server, 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    loss_up: f64,
    /// The share of packets lost on the way from the server, 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    loss_down: f64,
    /// Milliseconds that every packet is delayed, each way.
    #[arg(long, default_value_t = 0)]
    delay_ms: u64,
    /// Milliseconds that packets are delayed at most beyond that.
    #[arg(long, default_value_t = 0)]
    jitter_ms: u64,
    /// Kilobits per second that fit through, each way; 0: no limit.
    #[arg(long, default_value_t = 0)]
    rate_kbps: u32,
    /// The same seed loses the same packets.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    let proxy = Proxy::bind(arguments.listen, arguments.to, arguments.impairments(), arguments.seed).await?;
    say(&format!("listening {}", proxy.address()?));
    let (command_sender, commands) = mpsc::channel(16);
    let (reply_sender, mut replies) = mpsc::channel::<String>(16);
    std::thread::spawn(move || read_commands(&command_sender));
    tokio::spawn(async move {
        while let Some(reply) = replies.recv().await {
            say(&reply);
        }
    });
    proxy.run(commands, reply_sender).await
}

impl Arguments {
    fn impairments(&self) -> Impairments {
        let both = LinkConfig {
            delay: Duration::from_millis(self.delay_ms),
            jitter: Duration::from_millis(self.jitter_ms),
            rate: (self.rate_kbps > 0).then(|| u64::from(self.rate_kbps) * 1000),
            ..Impairments::default().up
        };
        Impairments {
            up: LinkConfig { loss: self.loss_up, ..both },
            down: LinkConfig { loss: self.loss_down, ..both },
        }
    }
}

fn read_commands(commands: &mpsc::Sender<Command>) {
    for line in io::stdin().lock().lines() {
        let Ok(line) = line else { return };
        match line.parse() {
            Ok(command) => {
                if commands.blocking_send(command).is_err() {
                    return;
                }
            }
            Err(wrong) => say(&format!("error: {wrong}")),
        }
    }
}

fn say(line: &str) {
    let mut output = io::stdout().lock();
    // Whoever started this has gone if nobody reads; standard input ends then too.
    let _ = writeln!(output, "{line}").and_then(|()| output.flush());
}
