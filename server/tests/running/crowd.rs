//! One client address that opens all the connections that it can, in the ways that there are: others still get in.

use std::process::Stdio;

use crate::server::Server;

/// Those of attackers, of another client, and two of one household.
const ADDRESSES: [&str; 6] = [
    "198.51.100.1/32",
    "198.51.100.2/32",
    "198.51.100.3/32",
    "198.51.100.8/32",
    "2001:db8::7/128",
    "2001:db8::8/128",
];

const CONFIGURATION: &str = "\
[http]
listen = \"0.0.0.0:8000\"
https_listen = \"[::]:8443\"
max_connections = 100
max_connections_per_address = 40
[turn]
listen = []
[media]
first_port = 40000
tcp_per_address = 8
";

/// A server in a network of its own, where clients come from some addresses. So many connections of one may say nothing.
async fn start(name: &str, opening: usize) -> Server {
    let opening = format!("http.max_opening_per_address={opening}");
    let line = ["--set", "media.first_port=40000", "--set", &opening];
    let server = Server::start_alone(name, CONFIGURATION, &line).await;
    for address in ADDRESSES {
        let mut added = server.beside("ip");
        // Without looking whether another has it, which takes a second.
        added.args(["addr", "add", address, "dev", "lo"]);
        if address.contains(':') {
            added.arg("nodad");
        }
        assert!(added.status().await.unwrap().success());
    }
    server
}

/// What a script of bash prints in the network of the server. It begins with functions by which a client speaks; who connects to
/// an address of this machine comes from that address.
async fn run(server: &Server, script: &str) -> String {
    let functions = r#"
        # Who writes to a connection that is closed already goes on.
        trap '' PIPE
        # opens HOST PORT COUNT TEXT: connections that say that and then nothing; they stay open. Those who come first are let in.
        opens() {
            for number in $(seq $3); do
                exec {one}<>/dev/tcp/$1/$2 && printf "$4" >&$one
            done 2>/dev/null
        }
        # closed: how many of the connections that are open the server has closed.
        closed() {
            local count=0
            for one in /proc/$$/fd/*; do
                one=${one##*/}
                case $(readlink /proc/$$/fd/$one) in socket:*) read -t 0.05 -N 1 -u $one; [ $? -gt 128 ] || count=$((count + 1)) ;; esac
            done 2>/dev/null
            echo $count
        }
        # asks HOST: the status of a page.
        asks() {
            exec 9<>/dev/tcp/$1/8000 && printf 'GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n' 2>/dev/null >&9
            head -n 1 <&9 2>/dev/null | tr -d '\r'
            exec 9<&-
        }
        # counts NAME: what the server has counted.
        counts() {
            exec 9<>/dev/tcp/127.0.0.1/8000 && printf 'GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n' >&9
            grep -F "$1" <&9 | tr -d '\r' | cut -d ' ' -f 2
            exec 9<&-
        }
    "#;
    let mut bash = server.beside("bash");
    bash.args(["-c", &format!("{functions}\n{script}")]).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = bash.output().await.unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn who_says_nothing_half_a_handshake_or_half_a_head_leaves_room_for_others() {
    let server = start("crowd-opening", 10).await;
    let attacks = [
        ("198.51.100.1 8000", ""),
        ("198.51.100.2 8443", "\\x16\\x03\\x01\\x02\\x00\\x01"),
        ("198.51.100.3 8000", "\\x00"),
    ];
    for (from, text) in attacks {
        let script = format!("opens {from} 200 '{text}'; closed; asks ${{from% *}}; asks 198.51.100.8");
        let said = run(&server, &format!("from='{from}'; {script}")).await;
        assert_eq!(said, "190\nHTTP/1.1 200 OK\n", "ten of {from} wait, and only others get in");
    }
    let said = run(&server, "counts 'veche_connections_closed_total{reason=\"address_opening\"}'").await;
    assert_eq!(said, "573\n");
}

#[tokio::test]
async fn who_keeps_connections_or_has_a_network_of_ipv6_leaves_room_for_others() {
    let server = start("crowd-open", 0).await;
    // A part of a request, whose rest does not come.
    let script = "opens 198.51.100.1 8000 100 'GET / HTTP/1.1\\r\\n'; closed; asks 198.51.100.8";
    assert_eq!(run(&server, script).await, "60\nHTTP/1.1 200 OK\n");
    let script = "opens 2001:db8::7 8443 30 ''; opens 2001:db8::8 8443 30 ''; closed; asks 198.51.100.8";
    assert_eq!(run(&server, script).await, "20\nHTTP/1.1 200 OK\n", "they are one household");
    let said = run(&server, "counts 'veche_connections_closed_total{reason=\"address\"}'").await;
    assert_eq!(said, "80\n");
}

#[tokio::test]
async fn media_over_tcp_is_not_taken_up_by_one_address() {
    let server = start("crowd-media", 0).await;
    // The length of a frame, and nothing of it.
    let script =
        "opens 198.51.100.1 40000 20 '\\x00\\x14'; closed; opens 198.51.100.8 40000 2 '\\x00\\x14'; closed";
    assert_eq!(run(&server, script).await, "18\n18\n", "two of each address wait");
    // It is told once a second.
    let counted = "counts 'veche_media_tcp_refusals_total{reason=\"household_unproven\"}'";
    let script = format!("until [ \"$({counted})\" = 18 ]; do :; done; echo told");
    assert_eq!(run(&server, &script).await, "told\n");
}
