//! The servers that are compared, each started afresh for one measurement, with the settings that docs/speed.md names.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::cores;
use crate::turn_clients::{PASSWORD, USER};

/// How long a server may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where Debian's package has the plugins of Janus, below the folder of the architecture.
const JANUS_LIBRARIES: &str = "/usr/lib";

/// Where Debian's package has Nchan.
const NCHAN_MODULE: &str = "/usr/lib/nginx/modules/ngx_nchan_module.so";

/// A server and how it is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// With so many worker threads.
    Veche {
        /// Threads for media.
        workers: usize,
    },
    /// With so many event loops; `None` for one of each peer connection, which is its default.
    Janus {
        /// Threads for media.
        event_loops: Option<usize>,
    },
    /// A module of nginx, with one worker, which is all that one core can use. It has channels only.
    Nchan,
    /// A TURN server and nothing else, with one thread that relays.
    Coturn,
}

impl Kind {
    /// The adapter that the load tool takes for it.
    pub fn target(self) -> &'static str {
        match self {
            Kind::Veche { .. } => "veche",
            Kind::Janus { .. } => "janus",
            Kind::Nchan | Kind::Coturn => "none",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Veche { workers: 1 } => f.write_str("Veche, 1 worker"),
            Kind::Veche { workers } => write!(f, "Veche, {workers} workers"),
            Kind::Janus { event_loops: Some(1) } => f.write_str("Janus, 1 event loop"),
            Kind::Janus { event_loops: Some(loops) } => write!(f, "Janus, {loops} event loops"),
            Kind::Janus { event_loops: None } => f.write_str("Janus, defaults"),
            Kind::Nchan => f.write_str("Nchan, 1 worker"),
            Kind::Coturn => f.write_str("coturn, 1 relay thread"),
        }
    }
}

/// A running server. It is stopped, and what it wrote removed, when this is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    folder: PathBuf,
    address: SocketAddr,
    /// Where it does TURN, if it does.
    turn: SocketAddr,
    kind: Kind,
}

impl Server {
    /// Starts a server on these cores and waits until it listens.
    ///
    /// # Errors
    /// When the program is not there, or does not listen after a while; then with the end of what it said.
    pub fn start(kind: Kind, veche: &Path, on: &[usize]) -> anyhow::Result<Self> {
        let address = free_address()?;
        let turn = if kind == Kind::Coturn { address } else { free_address()? };
        let folder = std::env::temp_dir().join(format!("bench-compare-{}", address.port()));
        fs::create_dir_all(&folder)?;
        let mut command = Command::new("taskset");
        command.args(["--cpu-list", &cores::list(on)]);
        match kind {
            Kind::Veche { workers } => {
                let config = folder.join("veche.toml");
                fs::write(&config, veche_config(address, turn, &folder, workers))?;
                command.arg(veche).arg("--config").arg(config);
            }
            Kind::Janus { event_loops } => {
                write_janus_config(&folder, address, event_loops)?;
                command.args(["janus", "--disable-colors", "--configs-folder"]).arg(&folder);
            }
            Kind::Nchan => {
                let config = folder.join("nginx.conf");
                fs::write(&config, nchan_config(address, &folder)?)?;
                command.arg("nginx").arg("-p").arg(&folder).arg("-c").arg(config);
                // Said before the configuration is read; Debian's own folder is not to be written to.
                command.arg("-e").arg(folder.join("error.log"));
            }
            Kind::Coturn => {
                command.arg("turnserver").args(coturn_arguments(address, &folder));
            }
        }
        let log = File::create(folder.join("log"))?;
        // `taskset` becomes the server: it has its process id.
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("taskset (util-linux) is missing")?;
        let mut server = Self { child, folder, address, turn, kind };
        server.wait_until_it_listens()?;
        Ok(server)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it does TURN.
    pub fn turn(&self) -> SocketAddr {
        self.turn
    }

    /// Where the load tool finds its signaling.
    pub fn url(&self) -> String {
        match self.kind {
            Kind::Veche { .. } | Kind::Nchan | Kind::Coturn => format!("http://{}", self.address),
            Kind::Janus { .. } => format!("ws://{}", self.address),
        }
    }

    fn wait_until_it_listens(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            let ended = self.child.try_wait()?;
            if ended.is_some() || began.elapsed() > PATIENCE {
                let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                let end = lines[lines.len().saturating_sub(10)..].join("\n");
                bail!("{} does not listen on {}:\n{end}", self.kind, self.address);
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has nothing to save: only its numbers count, and they are taken.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The system gives it again to the next who asks for this very port; that nobody comes between is only likely.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// Everything is as it comes but what would refuse thousands of clients of one address.
fn veche_config(address: SocketAddr, turn: SocketAddr, folder: &Path, workers: usize) -> String {
    format!(
        "[http]\nlisten = \"{address}\"\nhttps_listen = \"\"\ndata_dir = \"{data}\"\n\
         [media]\nbind = [\"127.0.0.1\"]\nfirst_port = 0\nworkers = {workers}\nloopback = true\n\
         [signaling]\nmax_participants_per_room = 10000\nrequests_per_second = 0\n\
         [messaging]\nrequests_per_second = 0\n\
         [turn]\nlisten = [\"{turn}\"]\nworkers = {workers}\nrealm = \"bench\"\nallow = [\"127.0.0.0/8\"]\n\
         users = [{{ name = \"{USER}\", password = \"{PASSWORD}\" }}]\nunproven_bytes_per_second = 0\n\
         user_allocations = 0\naddress_allocations = 0\ntotal_allocations = 0\nuser_permissions = 0\n\
         address_permissions = 0\ntotal_permissions = 0\nuser_channels = 0\naddress_channels = 0\ntotal_channels = 0\n\
         [log]\nfilter = \"warn\"\n",
        data = folder.join("data").display(),
    )
}

/// Datagrams and connections without TLS, one thread that relays (beside those that listen, authenticate and wait), one user,
/// nothing logged; relays may reach this machine.
fn coturn_arguments(address: SocketAddr, folder: &Path) -> Vec<String> {
    let mut arguments: Vec<String> =
        ["-n", "--lt-cred-mech", "--no-tls", "--no-dtls", "--no-cli", "--no-rfc5780"]
            .into_iter()
            .chain(["--allow-loopback-peers", "--no-stdout-log", "--simple-log"])
            .map(str::to_owned)
            .collect();
    let mut set = |name: &str, value: String| arguments.push(format!("--{name}={value}"));
    set("listening-ip", address.ip().to_string());
    set("listening-port", address.port().to_string());
    set("relay-ip", address.ip().to_string());
    set("relay-threads", "1".to_owned());
    set("realm", "bench".to_owned());
    set("user", format!("{USER}:{PASSWORD}"));
    set("log-file", "/dev/null".to_owned());
    set("pidfile", folder.join("pid").display().to_string());
    set("userdb", folder.join("users").display().to_string());
    arguments
}

/// One process with one event loop. Of a channel it keeps what Veche keeps by default: 1,000 messages for five minutes.
fn nchan_config(address: SocketAddr, folder: &Path) -> anyhow::Result<String> {
    if !Path::new(NCHAN_MODULE).exists() {
        bail!("{NCHAN_MODULE} is missing: install the packages nginx-light and libnginx-mod-nchan");
    }
    Ok(format!(
        "load_module {NCHAN_MODULE};\ndaemon off;\nmaster_process off;\nworker_rlimit_nofile 65536;\n\
         pid {folder}/pid;\nerror_log {folder}/error.log;\nevents {{\n\tworker_connections 32768;\n}}\n\
         http {{\n\taccess_log off;\n\tclient_body_temp_path {folder}/bodies;\n\tproxy_temp_path {folder}/proxy;\n\
         \tfastcgi_temp_path {folder}/fastcgi;\n\tuwsgi_temp_path {folder}/uwsgi;\n\tscgi_temp_path {folder}/scgi;\n\
         \tserver {{\n\t\tlisten {address} backlog=4096;\n\t\tkeepalive_requests 1000000;\n\
         \t\tlocation = /pub {{\n\t\t\tnchan_publisher;\n\t\t\tnchan_channel_id $arg_id;\n\
         \t\t\tnchan_message_buffer_length 1000;\n\t\t\tnchan_message_timeout 5m;\n\t\t}}\n\
         \t\tlocation = /sub {{\n\t\t\tnchan_subscriber websocket;\n\t\t\tnchan_channel_id $arg_id;\n\
         \t\t\tnchan_subscriber_first_message newest;\n\t\t\tnchan_websocket_ping_interval 30;\n\t\t}}\n\t}}\n}}\n",
        folder = folder.display(),
    ))
}

/// Video room and WebSocket only; ICE-lite, as a server with an address of its own has it (and as Veche is); little is
/// logged. Janus takes only addresses that are not loopback, but packets between two addresses of one machine go
/// through its loopback interface all the same.
fn write_janus_config(folder: &Path, address: SocketAddr, event_loops: Option<usize>) -> anyhow::Result<()> {
    let libraries = janus_libraries()?;
    let loops = event_loops.map_or_else(String::new, |loops| format!("\tevent_loops = {loops}\n"));
    let plugins = other_libraries(&libraries.join("plugins"), "libjanus_videoroom.so")?;
    let transports = other_libraries(&libraries.join("transports"), "libjanus_websockets.so")?;
    let main = format!(
        "general: {{\n\tplugins_folder = \"{library}/plugins\"\n\ttransports_folder = \"{library}/transports\"\n\
         \tdebug_level = 2\n{loops}}}\n\
         nat: {{\n\tice_lite = true\n}}\n\
         plugins: {{\n\tdisable = \"{plugins}\"\n}}\n\
         transports: {{\n\tdisable = \"{transports}\"\n}}\n",
        library = libraries.display(),
    );
    let websockets = format!(
        "general: {{\n\tws = true\n\tws_ip = \"{}\"\n\tws_port = {}\n\twss = false\n}}\n",
        address.ip(),
        address.port()
    );
    fs::write(folder.join("janus.jcfg"), main)?;
    fs::write(folder.join("janus.transport.websockets.jcfg"), websockets)?;
    // Rooms are made by the load tool.
    fs::write(folder.join("janus.plugin.videoroom.jcfg"), "general: {\n}\n")?;
    Ok(())
}

/// `/usr/lib/ARCHITECTURE/janus`
fn janus_libraries() -> anyhow::Result<PathBuf> {
    fs::read_dir(JANUS_LIBRARIES)?
        .filter_map(|entry| Some(entry.ok()?.path().join("janus")))
        .find(|folder| folder.join("plugins/libjanus_videoroom.so").exists())
        .with_context(|| {
            format!("Janus's video room is not below {JANUS_LIBRARIES}: install the package janus")
        })
}

fn other_libraries(folder: &Path, but: &str) -> anyhow::Result<String> {
    let names = fs::read_dir(folder)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let is_plugin = |name: &String| Path::new(name).extension().is_some_and(|e| e == "so") && name != but;
    Ok(names.filter(is_plugin).collect::<Vec<_>>().join(","))
}
