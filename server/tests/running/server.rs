//! A server of its own for each test: the binary with a folder of its own, on ports that the system chooses.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

/// Longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The last line of what the server says when it has started.
const STARTED: &str = "Veche is ready.";

/// A folder that is removed in the end.
pub(crate) struct Folder(pub(crate) PathBuf);

/// A running server.
pub(crate) struct Server {
    child: Child,
    pub(crate) folder: Arc<Folder>,
    said: Lines,
    logged: Lines,
}

/// What has been written so far.
#[derive(Clone)]
struct Lines {
    text: Arc<Mutex<String>>,
    changed: watch::Receiver<()>,
}

/// A `veche` that sees nothing of the environment of the tests.
pub(crate) fn veche(folder: &Folder) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_veche"));
    command.env_clear().current_dir(&folder.0).stdin(Stdio::null()).kill_on_drop(true);
    command
}

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("veche-running-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn write(&self, file: &str, text: &str) {
        std::fs::write(self.0.join(file), text).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Server {
    /// Starts one with this configuration.
    pub(crate) async fn start(name: &str, configuration: &str) -> Self {
        Self::start_in(Folder::new(name).into(), configuration).await
    }

    /// Starts one in this folder, where another may have run before.
    pub(crate) async fn start_in(folder: Arc<Folder>, configuration: &str) -> Self {
        Self::start_with(folder, configuration, &[]).await
    }

    /// The same with more on its command line.
    pub(crate) async fn start_with(folder: Arc<Folder>, configuration: &str, line: &[&str]) -> Self {
        let command = veche(&folder);
        Self::start_by(command, folder, configuration, line).await
    }

    /// Starts one in a network of its own, which has a loopback and nothing else.
    pub(crate) async fn start_alone(name: &str, configuration: &str, line: &[&str]) -> Self {
        let folder: Arc<Folder> = Folder::new(name).into();
        let mut command = Command::new("unshare");
        let script = "PATH=$PATH:/usr/sbin:/sbin; ip link set lo up && exec \"$0\" \"$@\"";
        command.args([
            "--user",
            "--map-root-user",
            "--net",
            "/bin/sh",
            "-c",
            script,
            env!("CARGO_BIN_EXE_veche"),
        ]);
        command.current_dir(&folder.0).stdin(Stdio::null()).kill_on_drop(true);
        Self::start_by(command, folder, configuration, line).await
    }

    /// A program in the network of a server that has one of its own.
    pub(crate) fn beside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        let process = self.pid().to_string();
        command.args(["--target", &process, "--user", "--net", "--preserve-credentials", program]);
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", path + ":/usr/sbin:/sbin").current_dir(&self.folder.0).kill_on_drop(true);
        command
    }

    async fn start_by(mut command: Command, folder: Arc<Folder>, configuration: &str, line: &[&str]) -> Self {
        folder.write("veche.toml", configuration);
        // What the test does not care about, and what must not be in the way of another test.
        command.args(["--set", "media.first_port=0", "--set", "media.workers=1"]);
        if !configuration.contains("\nlisten") {
            command.args(["--http-listen", "127.0.0.1:0", "--set", "turn.listen=127.0.0.1:0"]);
        }
        if !configuration.contains("https_listen") {
            command.args(["--https-listen", ""]);
        }
        command.args(line);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let said = Lines::of(child.stdout.take().unwrap());
        let logged = Lines::of(child.stderr.take().unwrap());
        let mut server = Self { child, folder, said, logged };
        tokio::select! {
            () = server.said.clone().wait_for(STARTED) => {}
            status = server.child.wait() => panic!("it ended with {status:?}: {}", server.log()),
        }
        server
    }

    /// Where HTTP is served.
    pub(crate) fn http(&self) -> SocketAddr {
        self.said_address("http://localhost:", "127.0.0.1:")
    }

    /// Where HTTPS is served.
    pub(crate) fn https(&self) -> SocketAddr {
        self.said_address("https://127.0.0.1:", "127.0.0.1:")
    }

    /// What it has said on its standard output.
    pub(crate) fn said(&self) -> String {
        self.said.text.lock().unwrap().clone()
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.logged.text.lock().unwrap().clone()
    }

    /// Waits until it has logged this.
    pub(crate) async fn logs(&self, text: &str) {
        self.logged.clone().wait_for(text).await;
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// What it has in memory.
    pub(crate) fn resident_bytes(&self) -> usize {
        let text = std::fs::read_to_string(format!("/proc/{}/statm", self.pid())).unwrap();
        let pages: usize = text.split_whitespace().nth(1).unwrap().parse().unwrap();
        pages * rustix::param::page_size()
    }

    /// The most that it has ever had in memory.
    pub(crate) fn peak_bytes(&self) -> usize {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.pid() as i32).unwrap(), signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("it ends").unwrap()
    }

    fn said_address(&self, before: &str, host: &str) -> SocketAddr {
        let said = self.said();
        let rest = said.split_once(before).unwrap_or_else(|| panic!("no {before} in {said}")).1;
        let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
        format!("{host}{port}").parse().unwrap()
    }
}

impl Lines {
    fn of(stream: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let (tell, changed) = watch::channel(());
        let lines = Self { text: text.clone(), changed };
        tokio::spawn(async move {
            let mut stream = BufReader::new(stream).lines();
            while let Ok(Some(line)) = stream.next_line().await {
                text.lock().unwrap().extend([line.as_str(), "\n"]);
                let _ = tell.send(());
            }
        });
        lines
    }

    async fn wait_for(mut self, text: &str) {
        let found = async {
            while !self.text.lock().unwrap().contains(text) {
                if self.changed.changed().await.is_err() {
                    // It has ended; whoever waits for that tells.
                    std::future::pending::<()>().await;
                }
            }
        };
        let found = tokio::time::timeout(PATIENCE, found).await;
        assert!(found.is_ok(), "`{text}` did not come: {}", self.text.lock().unwrap());
    }
}
