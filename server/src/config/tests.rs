//! Settings from all sources, and the errors that operators see.

use super::*;

fn load(assignments: Result<Vec<Assignment>, ConfigError>) -> Result<Config, String> {
    assignments.and_then(Config::from_assignments).map_err(|error| error.to_string())
}

fn from_file(text: &str) -> Result<Config, String> {
    load(sources::from_file(text, "veche.toml"))
}

fn from_environment(variables: &[(&str, &str)]) -> Result<Config, String> {
    let variables = variables.iter().map(|&(name, value)| (name.into(), value.into()));
    load(sources::from_environment(variables).map(|(assignments, _)| assignments))
}

fn from_flags(line: &[&str]) -> Result<Config, String> {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        flags: Flags,
    }
    let line = <Line as clap::Parser>::parse_from([&["veche"], line].concat());
    load(line.flags.assignments())
}

#[test]
fn the_example_has_every_setting_with_its_default() {
    let example = include_str!("../../../config.example.toml");
    assert_eq!(from_file(example), Ok(Config::default()));
    let table: Table = example.parse().unwrap();
    assert_eq!(table, default_table());
}

#[test]
fn what_is_printed_can_be_read() {
    let config = from_file("[http]\nlisten = \"127.0.0.1:9000\"\nhttps_listen = \"\"").unwrap();
    assert_eq!(config.http.https_listen, None);
    assert_eq!(from_file(&config.to_toml()), Ok(config));
}

#[test]
fn the_environment_overrides_and_the_contracts_variables_work() {
    let config = from_environment(&[
        ("VECHE_HTTP_LISTEN", "127.0.0.1:9000"),
        ("VECHE_MEDIA_EXTERNAL_ADDRESSES", "203.0.113.5, 2001:db8::5"),
        ("VECHE_LOG_FORMAT", "json"),
        ("WEBRTC_STUN_SERVERS", "stun:stun.example:3478,stun:stun1.example:3478"),
        ("WEBRTC_MAX_ROOMS", "100"),
        ("WEBRTC_ENABLED", "false"),
        ("WEBSOCKET_HEARTBEAT_INTERVAL", "30"),
        ("VECHE_CONFIG", "ignored here"),
        ("PATH", "/bin"),
    ])
    .unwrap();
    assert_eq!(config.http.listen.port(), 9000);
    assert_eq!(config.media.external_addresses.len(), 2);
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(config.signaling.stun_servers.len(), 2);
    assert_eq!((config.signaling.max_rooms, config.signaling.enabled), (100, false));
    assert_eq!(config.signaling.heartbeat_seconds, 30);
}

#[test]
fn variables_that_set_nothing_are_noted() {
    let variables = [("VECHE_SERVICE_HOST", "10.0.0.1"), ("WEBSOCKET_MAX_CONECTIONS", "5")];
    let variables = variables.map(|(name, value)| (name.into(), value.into()));
    let (assignments, notes) = sources::from_environment(variables.into_iter()).unwrap();
    assert!(assignments.is_empty());
    assert_eq!(
        notes,
        [
            "VECHE_SERVICE_HOST: ignored, for the configuration has no section [service]",
            "WEBSOCKET_MAX_CONECTIONS: ignored, for it is no variable of veche; did you mean WEBSOCKET_MAX_CONNECTIONS?",
        ]
    );
}

#[test]
fn every_variable_of_the_contract_is_a_setting() {
    let config = from_environment(&[
        ("WEBSOCKET_ENABLED", "true"),
        ("WEBSOCKET_AUTH_REQUIRED", "true"),
        ("WEBSOCKET_MAX_CONNECTIONS", "1000"),
        ("WEBSOCKET_HEARTBEAT_INTERVAL", "30"),
        ("WEBSOCKET_BINARY_MAX_SIZE", "52428800"),
        ("SSE_ENABLED", "false"),
        ("SSE_AUTH_REQUIRED", "true"),
        ("SSE_MAX_CONNECTIONS", "500"),
        ("SSE_HEARTBEAT_INTERVAL", "16"),
        ("SSE_RETRY_TIMEOUT", "3001"),
        ("WEBRTC_ENABLED", "true"),
        ("WEBRTC_STUN_SERVERS", "stun:stun.l.google.com:19302,stun:stun1.l.google.com:19302"),
        ("WEBRTC_MAX_ROOMS", "100"),
        ("WEBRTC_MAX_PARTICIPANTS_PER_ROOM", "10"),
        ("BINARY_DATA_ENABLED", "false"),
        ("BINARY_MAX_FILE_SIZE", "52428801"),
        ("BINARY_ALLOWED_TYPES", "image/*,application/pdf,text/*"),
        ("BINARY_COMPRESSION_ENABLED", "false"),
    ])
    .unwrap();
    let messaging = &config.messaging;
    assert!(messaging.websocket_enabled && !messaging.sse_enabled);
    assert_eq!((messaging.websocket_max_connections, config.signaling.max_connections), (1000, 1000));
    assert_eq!((messaging.websocket_heartbeat_seconds, config.signaling.heartbeat_seconds), (30, 30));
    assert_eq!(messaging.websocket_binary_max_bytes, 52_428_800);
    assert_eq!((messaging.sse_max_connections, messaging.sse_heartbeat_seconds), (500, 16));
    assert_eq!(messaging.sse_retry_milliseconds, 3001);
    assert!(config.access.websocket_required && config.access.sse_required && !config.access.required);
    assert_eq!((config.signaling.max_rooms, config.signaling.max_participants_per_room), (100, 10));
    assert_eq!((config.files.enabled, config.files.compression), (false, false));
    assert_eq!(config.files.max_file_bytes, 52_428_801);
    assert_eq!(config.files.allowed_types, ["image/*", "application/pdf", "text/*"]);
}

#[test]
fn variables_that_are_not_utf8_matter_only_where_they_are_settings() {
    use std::os::unix::ffi::OsStringExt;
    let odd = || OsString::from_vec(vec![0xff]);
    let (assignments, notes) =
        sources::from_environment([(odd(), "1".into()), ("PATH".into(), odd())].into_iter()).unwrap();
    assert!(assignments.is_empty() && notes.is_empty());
    let error = sources::from_environment([("VECHE_LOG_FILTER".into(), odd())].into_iter()).err().unwrap();
    assert!(error.to_string().starts_with("VECHE_LOG_FILTER: not UTF-8"), "{error}");
}

#[test]
fn a_longer_heartbeat_alone_makes_patience_longer() {
    let seconds = |variables: &[_]| from_environment(variables).map(|config| config.signaling.idle_seconds);
    assert_eq!(seconds(&[("WEBSOCKET_HEARTBEAT_INTERVAL", "60")]), Ok(180));
    assert_eq!(seconds(&[("WEBSOCKET_HEARTBEAT_INTERVAL", "5")]), Ok(45));
    let both = [("WEBSOCKET_HEARTBEAT_INTERVAL", "60"), ("VECHE_SIGNALING_IDLE_SECONDS", "90")];
    assert_eq!(seconds(&both), Ok(90));
}

#[test]
fn errors_name_the_setting_and_give_an_example() {
    for (text, parts) in [
        (
            "[http]\nlisten = \"here\"",
            vec!["http.listen = \"here\"", "for example http.listen = \"0.0.0.0:8000\""],
        ),
        ("[http]\nport = 80", vec!["there is no setting http.port", "listen"]),
        ("[htp]\nlisten = 1", vec!["no section [htp]; did you mean http?", "telemetry"]),
        ("[http]\ntrusted_proxies = [\"all\"]", vec!["http.trusted_proxies", "for example", "10.0.0.0/8"]),
        ("[log]\nfilter = \"a=b=c\"", vec!["log.filter = \"a=b=c\"", "for example"]),
        ("[log]\nfilter = \"\"", vec!["log.filter", "empty"]),
        ("[acme]\ndomains = [\"*.veche.example\"]", vec!["acme.domains", "`*.veche.example`"]),
        (
            "[acme]\ndomains = [\"veche.example\"]\n[http]\nhttps_listen = \"\"",
            vec!["acme.domains", "http.https_listen"],
        ),
        ("listen = 1", vec!["outside of a section"]),
        ("[http", vec!["veche.toml", "config.example.toml"]),
        (
            "[media]\nfirst_port = 70000",
            vec!["media.first_port = 70000", "for example media.first_port = 40000"],
        ),
        ("[media]\nbind = [\"x\"]", vec!["media.bind", "for example"]),
        ("[telemetry]\notlp_sample = 2.0", vec!["telemetry.otlp_sample", "0.1"]),
        ("[telemetry]\notlp_endpoint = \"collector\"", vec!["telemetry.otlp_endpoint", "4318"]),
        ("[storage]\nurl = \"mysql://s3cret\"", vec!["storage.url", "postgres://"]),
        (
            "[[webhooks]]\nurl = \"https://app.example\"",
            vec!["webhooks = (hidden)", "secret", "for example webhooks = [{ url"],
        ),
        ("webhooks = [{ url = \"ftp://x\", secret = \"s\" }]", vec!["webhooks[0].url"]),
        ("[log]\nformat = \"xml\"", vec!["log.format", "for example log.format = \"text\""]),
        ("[signaling]\nidle_seconds = 1", vec!["signaling.idle_seconds", "for example 45"]),
        ("[http]\nkey_file = \"key.pem\"", vec!["http.certificate_file", "for example"]),
    ] {
        let error = from_file(text).unwrap_err();
        for part in parts {
            assert!(error.contains(part), "`{error}` lacks `{part}`");
        }
    }
    let error = from_environment(&[("WEBRTC_MAX_ROOMS", "many")]).unwrap_err();
    assert_eq!(error, "WEBRTC_MAX_ROOMS=many: not a number; for example WEBRTC_MAX_ROOMS=10000");
    let error = from_environment(&[("VECHE_HTTP_LISTN", "x")]).unwrap_err();
    assert!(error.starts_with("VECHE_HTTP_LISTN: there is no setting http.listn"), "{error}");
}

#[test]
fn flags_come_last_and_set_anything() {
    let line = ["--http-listen", "127.0.0.1:9000", "--data-dir", "/srv", "--log", "warn"];
    let config =
        from_flags(&[&line[..], &["--set", "signaling.max_rooms=7", "--set", "media.tcp=no"]].concat())
            .unwrap();
    assert_eq!((config.http.listen.port(), config.log.filter.as_str()), (9000, "warn"));
    assert_eq!(config.http.data_dir, Path::new("/srv"));
    assert_eq!((config.signaling.max_rooms, config.media.tcp), (7, false));
    for (line, parts) in [
        (
            ["--set", "signaling.max_rooms"],
            ["--set signaling.max_rooms: not SECTION.KEY=VALUE", "for example"],
        ),
        (
            ["--set", "signaling.max_room=7"],
            ["--set signaling.max_room: ", "did you mean signaling.max_rooms?"],
        ),
        (["--set", "signaling.max_rooms=x"], ["--set signaling.max_rooms=x: not a number", "10000"]),
        (["--http-listen", "8000"], ["--http-listen: http.listen = \"8000\"", "\"0.0.0.0:8000\""]),
    ] {
        let error = from_flags(&line).unwrap_err();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
}

#[test]
fn lists_of_tables_come_from_every_source() {
    let urls = |config: Config| config.webhooks.into_iter().map(|webhook| webhook.url).collect::<Vec<_>>();
    let file = "[[webhooks]]\nurl = \"https://one.example\"\nsecret = \"a\"\n\
                [[webhooks]]\nurl = \"https://two.example\"\nsecret = \"b\"";
    assert_eq!(urls(from_file(file).unwrap()), ["https://one.example", "https://two.example"]);
    let inline = "[{ url = \"https://three.example\", secret = \"c\" }]";
    assert_eq!(urls(from_environment(&[("VECHE_WEBHOOKS", inline)]).unwrap()), ["https://three.example"]);
    assert_eq!(
        urls(from_flags(&["--set", &format!("webhooks={inline}")]).unwrap()),
        ["https://three.example"]
    );
    let error = from_environment(&[("VECHE_WEBHOOKS", "[{")]).unwrap_err();
    assert!(
        error.starts_with("VECHE_WEBHOOKS=(hidden): not a list; for example VECHE_WEBHOOKS=[{ url"),
        "{error}"
    );
}

#[test]
fn rust_log_comes_before_the_other_variables() {
    let config = from_environment(&[("RUST_LOG", "debug"), ("VECHE_LOG_FILTER", "warn")]).unwrap();
    assert_eq!(config.log.filter, "debug");
    let config = from_environment(&[("RUST_LOG", " "), ("VECHE_LOG_FILTER", "warn")]).unwrap();
    assert_eq!(config.log.filter, "warn");
    let error = from_environment(&[("RUST_LOG", "a=b=c")]).unwrap_err();
    assert!(error.starts_with("RUST_LOG: log.filter"), "{error}");
}

#[test]
fn errors_show_no_secrets() {
    let secret = "my secret";
    let errors = [
        from_file(&format!("[access]\nsecrets = \"{secret}\"")),
        from_file(&format!("[access]\nsecrets = [{{ kid = \"a\", secert = \"{secret}\" }}]")),
        from_file(&format!("[access]\nsecrets = [\"{secret}")),
        from_file(&format!("webhooks = \"{secret}\"")),
        from_environment(&[("VECHE_ACCESS_SECRETS", &format!("[\"{secret}"))]),
        from_environment(&[("VECHE_WEBHOOKS", &format!("[{{ secret = \"{secret}\""))]),
        from_flags(&["--set", &format!("access.secrets=[{secret}")]),
    ];
    for error in errors {
        let error = error.unwrap_err();
        assert!(!error.contains(secret) && !error.contains('\n'), "{error}");
    }
    let error = from_file("[log]\nfilter = \"info\"\n[access\n").unwrap_err();
    assert!(error.starts_with("veche.toml: line 3: ") && error.contains("config.example.toml"), "{error}");
}
