//! Webhooks that post to a small server on loopback, which answers what a test wants.

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use veche_fetch::Limits;

use super::*;
use crate::events::NewEvent;
use crate::settings::StorageSettings;

/// As long as a test may wait for a delivery before it fails.
const PATIENCE: Duration = Duration::from_secs(30);

const QUICK: Pace = Pace { first: Duration::from_millis(2), longest: Duration::from_millis(8) };

/// A request that arrived.
struct Posted {
    signature: String,
    body: String,
}

#[tokio::test]
async fn events_arrive_signed_in_order_and_go_on_after_a_restart() {
    let folder = TempDir::new().unwrap();
    let (url, mut arrived) = serve(&[]).await;
    let webhook = settings(&url, &["room.*", "message.kept"]);

    let database = open(&folder).await;
    // Before the webhook was ever there.
    record(&database, "room.before", 0).await;
    let webhooks = start(&database, &[&webhook]);
    until_started(&database, &webhook).await;
    for number in 1..=250 {
        database.record(event("room.number", number));
        database.record(event("participant.joined", number));
    }
    database.flush().await.unwrap();
    assert_eq!(numbers(&mut arrived, 250).await, (1..=250).collect::<Vec<_>>());
    webhooks.stop().await;
    record(&database, "room.number", 251).await;
    database.close().await;

    let database = open(&folder).await;
    record(&database, "room.number", 252).await;
    let webhooks = start(&database, &[&webhook]);
    assert_eq!(numbers(&mut arrived, 2).await, [251, 252]);
    webhooks.stop().await;
    database.close().await;
}

#[tokio::test]
async fn what_fails_is_tried_again_in_order_and_others_do_not_wait() {
    let folder = TempDir::new().unwrap();
    // 0 closes the connection without an answer.
    let (bad_url, mut bad) = serve(&[500, 302, 0, 429]).await;
    let (good_url, mut good) = serve(&[]).await;
    let database = open(&folder).await;
    let (bad_webhook, good_webhook) = (settings(&bad_url, &["*"]), settings(&good_url, &["*"]));
    let webhooks = start(&database, &[&bad_webhook, &good_webhook]);
    until_started(&database, &bad_webhook).await;
    until_started(&database, &good_webhook).await;
    record(&database, "a", 1).await;
    assert_eq!(numbers(&mut good, 1).await, [1]);
    // Each attempt posts the same event.
    assert_eq!(numbers(&mut bad, 5).await, [1, 1, 1, 1, 1]);
    record(&database, "a", 2).await;
    assert_eq!(numbers(&mut bad, 1).await, [2]);
    let counters = until(&webhooks, |counters| counters.delivered == 4).await;
    assert_eq!((counters.failures, counters.given_up), (4, 0));
    webhooks.stop().await;
}

#[tokio::test]
async fn what_is_too_old_is_given_up_and_what_is_not_is_not() {
    let folder = TempDir::new().unwrap();
    let (url, mut arrived) = serve(&[503]).await;
    let database = open(&folder).await;
    let webhook = WebhookSettings { give_up_hours: 1, ..settings(&url, &["*"]) };
    let webhooks = start(&database, &[&webhook]);
    until_started(&database, &webhook).await;
    let old = NewEvent { time: now() - 2 * 60 * 60 * 1_000, ..event("a", 1) };
    database.record(old);
    database.record(event("a", 2));
    database.flush().await.unwrap();
    assert_eq!(numbers(&mut arrived, 2).await, [1, 2]);
    assert_eq!(numbers(&mut arrived, 1).await, [2]);
    let counters = until(&webhooks, |counters| counters.delivered == 1).await;
    assert_eq!((counters.failures, counters.given_up), (1, 1));
    webhooks.stop().await;
}

#[tokio::test]
async fn events_that_are_all_too_old_do_not_hammer_who_does_not_answer() {
    let folder = TempDir::new().unwrap();
    let (url, mut arrived) = serve(&[503, 503]).await;
    let database = open(&folder).await;
    let webhook = WebhookSettings { give_up_hours: 1, ..settings(&url, &["*"]) };
    let webhooks = start(&database, &[&webhook]);
    until_started(&database, &webhook).await;
    for number in 1..=1_000 {
        database.record(NewEvent { time: now() - 2 * 60 * 60 * 1_000, ..event("a", number) });
    }
    database.record(event("a", 1_001));
    database.flush().await.unwrap();
    // Only the first batch is tried; then what is not too old, until it arrives.
    let counters = until(&webhooks, |counters| counters.delivered == 1).await;
    assert_eq!(counters.failures, 2);
    assert!((900..=1_000).contains(&counters.given_up), "{counters:?}");
    assert_eq!(std::iter::from_fn(|| arrived.try_recv().ok()).count(), 3);
    webhooks.stop().await;
}

#[test]
fn addresses_are_shown_without_what_may_be_secret() {
    assert_eq!(shown("https://app.example/hook?key=s3cret"), "https://app.example/hook");
    assert_eq!(shown("https://app.example/hook"), "https://app.example/hook");
}

#[test]
fn waits_double_up_to_the_longest() {
    let pace = Pace { first: FIRST_WAIT, longest: LONGEST_WAIT };
    let seconds: Vec<u64> = (1..=11).map(|failures| pace.wait(failures, 0.0).as_secs()).collect();
    assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    assert_eq!(pace.wait(u32::MAX, 0.0), LONGEST_WAIT);
    assert_eq!(pace.wait(1, 0.2), Duration::from_millis(1_200));
    assert_eq!(pace.wait(1, -0.2), Duration::from_millis(800));
}

#[test]
fn a_signature_is_that_of_other_programs() {
    // python3: hmac.new(b"whsec_test", b'1700000000.{"events":[]}', hashlib.sha256).hexdigest()
    let expected = "t=1700000000,v1=4f6f9b7a41398ad124e52a1320534f978e522923f3f2b2724e31d7a9dbf78a7f";
    assert_eq!(sign("whsec_test", 1_700_000_000, br#"{"events":[]}"#), expected);
}

#[test]
fn kinds_are_matched_by_patterns() {
    assert!(matches("*", "room.created") && matches("room.*", "room.created") && matches("a.b", "a.b"));
    assert!(!matches("room.*", "rooms.created") && !matches("room.*", "room") && !matches("a.b", "a.bc"));
    assert!(["*", "room.*", "message.kept"].iter().all(|pattern| is_pattern(pattern)));
    assert!(!["", ".*", "ro*m", "room.*.x", "room created"].iter().any(|pattern| is_pattern(pattern)));
}

#[test]
fn what_is_wrong_in_the_settings_is_named_with_an_example() {
    let good = settings("https://example.org/hook", &["room.*"]);
    assert_eq!(WebhookSettings::check_all(std::slice::from_ref(&good)), Ok(()));
    let wrong = |webhook: WebhookSettings| WebhookSettings::check_all(&[webhook]).unwrap_err();
    let error = wrong(WebhookSettings { url: "example.org".into(), ..good.clone() });
    assert!(error.starts_with("webhooks[0].url: ") && error.contains("https://example.org/path"), "{error}");
    let error = wrong(WebhookSettings { events: vec!["room*".into()], ..good.clone() });
    assert!(error.starts_with("webhooks[0].events: 'room*'") && error.contains("example"), "{error}");
    let error = wrong(WebhookSettings { secret: String::new(), ..good.clone() });
    assert!(error.starts_with("webhooks[0].secret: "), "{error}");
    let error = WebhookSettings::check_all(&[good.clone(), good]).unwrap_err();
    assert!(error.starts_with("webhooks[1].url: "), "{error}");
}

async fn open(folder: &TempDir) -> Database {
    Database::open(&StorageSettings::default(), folder.path()).await.unwrap()
}

fn settings(url: &str, events: &[&str]) -> WebhookSettings {
    WebhookSettings {
        url: url.to_owned(),
        secret: "whsec_test".to_owned(),
        events: events.iter().map(|&kind| kind.to_owned()).collect(),
        give_up_hours: 24,
    }
}

fn start(database: &Database, webhooks: &[&WebhookSettings]) -> Webhooks {
    let client = Client::new(Limits::default()).unwrap();
    Webhooks::start_at(QUICK, database, &client, webhooks.iter().map(|&webhook| webhook.clone()).collect())
}

/// A new webhook tells of what happens once it has its place in the log.
async fn until_started(database: &Database, webhook: &WebhookSettings) {
    while database.webhook_position(&webhook_id(&webhook.url)).await.unwrap().is_none() {
        tokio::task::yield_now().await;
    }
}

async fn until(webhooks: &Webhooks, is_it: impl Fn(WebhookCounters) -> bool) -> WebhookCounters {
    let wait = async {
        while !is_it(webhooks.counters()) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("the counters never become what they should");
    webhooks.counters()
}

fn event(kind: &str, number: u64) -> NewEvent {
    NewEvent::new(kind, now()).data(json!({ "number": number }))
}

async fn record(database: &Database, kind: &str, number: u64) {
    database.record(event(kind, number));
    database.flush().await.unwrap();
}

/// The numbers of the next events that arrive, as many as that; each delivery is signed.
async fn numbers(arrived: &mut mpsc::UnboundedReceiver<Posted>, count: usize) -> Vec<u64> {
    let mut numbers = Vec::new();
    while numbers.len() < count {
        let posted = tokio::time::timeout(PATIENCE, arrived.recv()).await.expect("nothing arrives").unwrap();
        let time = posted.signature.split(',').next().unwrap().trim_start_matches("t=").parse().unwrap();
        assert_eq!(posted.signature, sign("whsec_test", time, posted.body.as_bytes()));
        let body: Value = serde_json::from_str(&posted.body).unwrap();
        let events = body["events"].as_array().unwrap();
        assert!(events.len() <= BATCH as usize);
        numbers.extend(events.iter().map(|event| event["data"]["number"].as_u64().unwrap()));
    }
    numbers
}

/// A server that answers with these statuses, then with 204; 0 closes the connection instead.
async fn serve(statuses: &'static [u16]) -> (String, mpsc::UnboundedReceiver<Posted>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let (sender, arrived) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut statuses = statuses.iter().copied();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let Some(posted) = read_request(&mut stream).await else { continue };
            if sender.send(posted).is_err() {
                return;
            }
            let status = statuses.next().unwrap_or(204);
            if status > 0 {
                let answer = format!("HTTP/1.1 {status} x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    });
    (url, arrived)
}

async fn read_request(stream: &mut TcpStream) -> Option<Posted> {
    let mut request = Vec::new();
    loop {
        if stream.read_buf(&mut request).await.ok()? == 0 {
            return None;
        }
        let Some((head, body)) = std::str::from_utf8(&request).ok()?.split_once("\r\n\r\n") else { continue };
        let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
        let length: usize = field("content-length: ")?.parse().ok()?;
        if body.len() == length {
            return Some(Posted { signature: field("veche-signature: ")?.to_owned(), body: body.to_owned() });
        }
    }
}
