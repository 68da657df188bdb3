//! A real PostgreSQL server for the suite: Debian's own, in a folder of its own, on a socket in that folder.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};

use sqlx::{AnyConnection, AssertSqlSafe, Connection as _};
use tempfile::TempDir;

/// Where Debian has its programs, besides the search path: a folder for each version.
const DEBIAN: &str = "/usr/lib/postgresql";

/// A server that ends with the test.
pub(crate) struct Server {
    process: Child,
    programs: Programs,
    folder: TempDir,
}

/// Where its programs are, and who runs them: it refuses to run as root.
struct Programs {
    folder: PathBuf,
    user: Option<(u32, u32)>,
}

impl Server {
    pub(crate) fn start() -> Self {
        let programs = Programs::find().expect(
            "PostgreSQL is missing, whose programs initdb and postgres this test needs; install it with \
             `scripts/need postgres` (Debian's package postgresql)",
        );
        let folder = TempDir::with_prefix("veche-pg-").unwrap();
        if let Some((uid, gid)) = programs.user {
            std::os::unix::fs::chown(folder.path(), Some(uid), Some(gid)).unwrap();
        }
        let made = programs
            .command("initdb", folder.path())
            .args(["--pgdata=data", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-sync"])
            .output()
            .unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        Self { process: programs.launch(folder.path()), programs, folder }
    }

    /// Kills it as a crash would.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts it anew after it was killed.
    pub(crate) fn start_again(&mut self) {
        self.process = self.programs.launch(self.folder.path());
    }

    /// The address of one of its databases.
    pub(crate) fn url(&self, database: &str) -> String {
        let folder = self.folder.path().display().to_string().replace('/', "%2F");
        format!("postgres://postgres@localhost/{database}?host={folder}")
    }

    pub(crate) async fn create_database(&self, name: &str) {
        sqlx::any::install_default_drivers();
        let mut connection = AnyConnection::connect(&self.url("postgres")).await.unwrap();
        let create = sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE \"{name}\"")));
        create.execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its data is thrown away: nothing has to be put in order. Its children notice that it is gone.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Programs {
    /// In the search path, or the newest of Debian's versions.
    fn find() -> Option<Self> {
        let has_both = |folder: &PathBuf| folder.join("initdb").exists() && folder.join("postgres").exists();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&path).find(has_both).or_else(|| {
            let versions = Path::new(DEBIAN).read_dir().ok()?;
            let mut folders: Vec<PathBuf> =
                versions.filter_map(|entry| Some(entry.ok()?.path().join("bin"))).collect();
            folders.sort();
            folders.into_iter().rev().find(has_both)
        });
        found.map(|folder| Self { folder, user: is_root().then(unprivileged_user) })
    }

    fn command(&self, program: &str, folder: &Path) -> Command {
        let mut command = Command::new(self.folder.join(program));
        command.current_dir(folder).env("LC_ALL", "C");
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Starts the server and waits until it takes connections.
    fn launch(&self, folder: &Path) -> Child {
        let mut process = self
            .command("postgres", folder)
            .args(["-D", "data", "-c", "listen_addresses=", "-c", "max_connections=60", "-c"])
            .arg(format!("unix_socket_directories={}", folder.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        wait_until_ready(process.stderr.take().unwrap());
        process
    }
}

fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

/// The user that Debian's package makes, or nobody.
fn unprivileged_user() -> (u32, u32) {
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let find = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut ids = line.split(':').skip(2).map(str::parse);
        Some((ids.next()?.ok()?, ids.next()?.ok()?))
    };
    find("postgres").or_else(|| find("nobody")).expect("every Debian has the user nobody")
}

/// Reads the server's log until it takes connections, and goes on reading, so that it never waits to be read.
fn wait_until_ready(log: ChildStderr) {
    let mut lines = BufReader::new(log).lines().map_while(Result::ok);
    let mut seen = Vec::new();
    while !seen.last().is_some_and(|line: &String| line.contains("ready to accept connections")) {
        let Some(line) = lines.next() else { panic!("postgres did not start: {seen:#?}") };
        seen.push(line);
    }
    std::thread::spawn(move || lines.for_each(drop));
}
