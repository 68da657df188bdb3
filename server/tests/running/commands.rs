//! The command line, and what it says to operators who have slipped.

use crate::client::get;
use crate::server::{Folder, Server, veche};

/// The exit code, standard output and standard error.
async fn run(folder: &Folder, line: &[&str], variables: &[(&str, &str)]) -> (i32, String, String) {
    let output = veche(folder).args(line).envs(variables.iter().copied()).output().await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn a_configuration_is_checked_and_printed_from_all_its_sources() {
    let folder = Folder::new("commands");
    folder.write("veche.toml", "[signaling]\nmax_rooms = 5\nmax_participants_per_room = 6\n");
    let variables = [("WEBRTC_MAX_PARTICIPANTS_PER_ROOM", "7"), ("VECHE_SIGNALING_RESUME_SECONDS", "8")];
    let line = ["config", "print", "--http-listen", "127.0.0.1:9000", "--set", "signaling.resume_seconds=9"];
    let (code, printed, _) = run(&folder, &line, &variables).await;
    assert_eq!(code, 0);
    let lines = [
        "max_rooms = 5",
        "max_participants_per_room = 7",
        "resume_seconds = 9",
        "listen = \"127.0.0.1:9000\"",
    ];
    for line in lines {
        assert!(printed.lines().any(|printed| printed == line), "{line} is not in {printed}");
    }
    let (code, said, _) = run(&folder, &["config", "check"], &variables).await;
    assert_eq!((code, said.as_str()), (0, "The configuration is fine.\n"));
    folder.write("printed.toml", &printed);
    let (_, again, _) = run(&folder, &["config", "print", "--config", "printed.toml"], &[]).await;
    assert_eq!(again, printed);
}

#[tokio::test]
async fn slips_are_named_with_what_was_meant() {
    let folder = Folder::new("slips");
    folder.write("slip.toml", "[http]\nlisten_on = \"127.0.0.1:80\"\n");
    folder.write("pair.toml", "[http]\ncertificate_file = \"none.pem\"\nkey_file = \"none.key\"\n");
    folder.write("keys.toml", "[access]\npublic_keys = [\"gone.pem\"]\n");
    let acme = "[acme]\ndomains = [\"veche.example\"]\ndirectory_ca_file = \"gone.pem\"\n";
    folder.write("acme.toml", &format!("{acme}[http]\nhttps_listen = \"127.0.0.1:0\"\n"));
    for (line, variables, parts) in [
        (vec!["--config", "keys.toml"], vec![], vec!["access.public_keys", "gone.pem: No such file"]),
        (vec!["--config", "acme.toml"], vec![], vec!["acme.directory_ca_file = \"gone.pem\""]),
        (
            vec!["--config", "slip.toml"],
            vec![],
            vec!["slip.toml", "http.listen_on", "did you mean http.listen?"],
        ),
        (vec![], vec![("VECHE_CONFIG", "slip.toml")], vec!["did you mean http.listen?"]),
        (vec!["--config", "gone.toml"], vec![], vec!["gone.toml", "for example --config veche.toml"]),
        (
            vec!["--config", "pair.toml"],
            vec![],
            vec!["http.certificate_file = \"none.pem\"", "none.pem: No such file"],
        ),
        (vec![], vec![("WEBRTC_MAX_ROOMS", "many")], vec!["WEBRTC_MAX_ROOMS=many: not a number"]),
        (vec!["--set", "media.worker=no"], vec![], vec!["--set media.worker", "did you mean", "workers?"]),
    ] {
        let line = [&["config", "check"][..], &line].concat();
        let (code, _, error) = run(&folder, &line, &variables).await;
        assert_eq!(code, 1, "{line:?}");
        for part in parts {
            assert!(error.contains(part), "`{part}` is not in: {error}");
        }
    }
    let (code, said, _) = run(&folder, &["config", "check"], &[("SSE_MAX_CONECTIONS", "5")]).await;
    assert_eq!(code, 0);
    assert!(said.contains("SSE_MAX_CONECTIONS: ignored"), "{said}");
}

#[tokio::test]
async fn keys_are_made_and_revoked_beside_a_running_server() {
    let server = Server::start("keys", "").await;
    let keys = async |line: &[&str]| run(&server.folder, &[&["keys"][..], line].concat(), &[]).await;
    let (code, key, error) = keys(&["create", "reports"]).await;
    assert_eq!(code, 0, "{error}");
    let path = format!("/realtime/connections?api_key={}", key.trim());
    let answer = get(server.http(), &path).await;
    assert_eq!(answer.status, 200, "{}", answer.text());

    // The use is noted by the way: nobody waits for that.
    let list = loop {
        let (_, list, _) = keys(&["list"]).await;
        if list.contains("last used 20") {
            break list;
        }
    };
    let (id, rest) = list.split_once('\t').unwrap();
    assert!(rest.starts_with("good\t-\treports\tlast used 20"), "{list}");
    let (code, _, error) = keys(&["revoke", id]).await;
    assert_eq!(code, 0, "{error}");
    let answer = get(server.http(), &path).await;
    assert_eq!(answer.status, 401, "{}", answer.text());
}
