//! A server looked at on its own machine: its configuration, what the machine grants, what it keeps, its ports, and then all
//! that users need, over the loopback.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, SystemTime};

use veche_access::{Actions, Authority, GrantsClaim, NewToken, issue};
use veche_doctor::{Finding, Level, Report, Target, Vantage};

use super::user::User;
use super::{DoctorArguments, folder, machine, names, ports, stores};
use crate::commands::Options;
use crate::config::Config;
use crate::tls;

/// How long the token is good that the doctor makes for itself.
const TOKEN_LIFETIME: Duration = Duration::from_mins(10);

/// How long the server may take to take a connection of its own machine.
const LISTENING_WITHIN: Duration = Duration::from_secs(4);

/// Looks at everything.
pub(super) async fn examine(options: &Options, arguments: &DoctorArguments) -> Report {
    let before_start = arguments.before_start;
    let mut report = Report::default();
    let Some(config) = configuration(options, &mut report) else { return report };
    let server = ports::server(&config);
    let user = User::of_server(server.as_ref().map(|holder| holder.process), &config.http.data_dir);
    files(&config, user.as_ref(), &mut report);
    report.extend(machine::examine(&config, server.as_ref().map(|holder| holder.process)));
    report.add(folder::examine(&config.http.data_dir, user.as_ref()));
    report.extend(stores::examine(&config).await);
    report.extend(names::examine(&config).await);
    let http = local(config.http.listen);
    let connected = tokio::time::timeout(LISTENING_WITHIN, tokio::net::TcpStream::connect(http)).await;
    let is_listening = connected.is_ok_and(|connected| connected.is_ok());
    if before_start || !is_listening {
        report.extend(ports::examine(&config, false, None));
        if !before_start {
            report.add(not_running(http));
        }
        return report;
    }
    let target = Target::new(&format!("http://{http}"), Vantage::Inside)
        .expect("a socket address makes a web address");
    let target = target.with_idle(arguments.idle).with_room(arguments.room.clone());
    let token = arguments.token.clone().or_else(|| token(&config, target.room(), &mut report));
    let shown = veche_doctor::examine(target.with_token(token)).await;
    // Where another program answers, its ports say nothing of the server's.
    let is_ours =
        shown.findings().iter().any(|finding| finding.check == "http" && finding.level == Level::Fine);
    report.extend(ports::examine(&config, is_ours, server.as_ref().filter(|_| is_ours)));
    report.extend(shown.findings().iter().cloned());
    if let Some(https) = config.http.https_listen.filter(|address| address.port() != 0) {
        let asked: Vec<String> = names::names(&config).into_iter().collect();
        report.extend(veche_doctor::examine_certificate(local(https), &asked).await);
    }
    report
}

/// What it means that the configuration cannot be used.
const MEANS: &str = "the server does not start";

/// Reads the configuration.
fn configuration(options: &Options, report: &mut Report) -> Option<Config> {
    const CHECK: &str = "configuration";
    let what = "to read the configuration";
    let (config, notes) = match options.load() {
        Ok(loaded) => loaded,
        Err(error) => {
            let finding = Finding::failure(CHECK, what, error.to_string()).means(MEANS);
            report.add(finding.mend(
                "write that line as the example in the message; veche config print shows what is used",
            ));
            return None;
        }
    };
    for note in notes {
        let finding = Finding::warning(CHECK, what, note).means("that setting has no effect");
        report.add(finding.mend("remove it, or write its name right; veche config print shows what is used"));
    }
    Some(config)
}

/// Reads the files that the configuration names, as the server's user where this one is root.
fn files(config: &Config, user: Option<&User>, report: &mut Report) {
    const CHECK: &str = "configuration";
    let read = || {
        [
            tls::check(config).map_err(|error| format!("{error:#}")),
            Authority::new(&config.access, None).map(drop).map_err(|error| error.to_string()),
        ]
    };
    let read = match user {
        Some(user) => user.act(read).unwrap_or_else(|error| [Err(error.to_string()), Ok(())]),
        None => read(),
    };
    let errors: Vec<String> = read.into_iter().filter_map(Result::err).collect();
    if errors.is_empty() {
        let what = "to read the configuration";
        report.add(Finding::fine(CHECK, what, "it and the files that it names are fine"));
    }
    let whose = user.map_or_else(String::new, |user| format!(", read as the user {}", user.name));
    for error in errors {
        let what = format!("the files that the configuration names{whose}");
        let finding = Finding::failure(CHECK, what, error).means(MEANS);
        report.add(finding.mend(
            "see that the server's user may read these files, and that they are what the setting asks for",
        ));
    }
}

/// A token for the rooms of the examination, which begin alike, where the server asks for one and has a secret to sign it with.
fn token(config: &Config, room: &str, report: &mut Report) -> Option<String> {
    if config.access.secrets.is_empty() {
        return None;
    }
    let grants =
        GrantsClaim { rooms: [(format!("{room}*"), Actions::PARTICIPATE)].into(), ..GrantsClaim::default() };
    let user_id = Some("veche-doctor".to_owned());
    let new = NewToken { user_id, name: None, grants: Some(grants), lifetime: TOKEN_LIFETIME };
    match issue(&config.access, &new, SystemTime::now()) {
        Ok(token) => Some(token),
        Err(error) => {
            let finding = Finding::failure(
                "access",
                "to make a token with the first of access.secrets",
                error.to_string(),
            );
            report.add(finding.mend("access.secrets = [\"at least 32 random bytes\"]"));
            None
        }
    }
}

fn not_running(http: SocketAddr) -> Finding {
    Finding::failure("http", format!("a TCP connection to http.listen, {http}"), "nothing listens there: the server is not running")
        .means("nobody can open the page; what only a running server shows was not looked at")
        .mend("start it: systemctl start veche, or veche with the same --config; --before-start looks only at what comes before that")
}

/// An address that is bound, as this machine reaches it.
fn local(bound: SocketAddr) -> SocketAddr {
    let ip = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, bound.port())
}
