//! Real requests over loopback, with pictures that ffmpeg has made.

mod story;

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use story::{Server, jpeg};
use veche_cameras::Settings;

#[tokio::test]
async fn a_picture_that_is_posted_is_there_until_the_next_one() {
    let server = Server::start(Settings::default()).await;
    let [first, second] = [jpeg("red", 320, 180), jpeg("blue", 320, 180)];
    let missing = server.get("/door/latest.jpg", "").await;
    assert_eq!((missing.status, missing.code()), (404, "camera_not_found".to_owned()));

    let posted = server.post("/door/frames", "image/jpeg", &first).await;
    assert_eq!((posted.status, posted.json()["frame"].as_u64()), (200, Some(1)), "{:?}", posted.text());
    let latest = server.get("/door/latest.jpg", "").await;
    assert_eq!((latest.status, &latest.body), (200, &first));
    assert_eq!(latest.header("content-type"), "image/jpeg");
    let tag = latest.header("etag");
    let same = server.get("/door/latest.jpg", &format!("If-None-Match: {tag}\r\n")).await;
    assert_eq!((same.status, same.body.len(), same.header("etag")), (304, 0, tag.clone()));

    // Who waits for the next one gets it when it comes.
    let path = format!("/door/latest.jpg?after={}", tag.trim_matches('"'));
    let (next, _) = tokio::join!(server.get(&path, ""), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        server.post("/door/frames", "image/jpeg", &second).await
    });
    assert_eq!((next.status, &next.body), (200, &second));
    let none = server
        .get(&format!("/door/latest.jpg?after={}&wait=0", next.header("etag").trim_matches('"')), "")
        .await;
    assert_eq!(none.status, 304);

    let list = server.get("", "").await.json();
    let camera = &list["cameras"][0];
    assert_eq!((camera["name"].as_str(), camera["width"].as_u64()), (Some("door"), Some(320)));
    assert_eq!(server.request("DELETE", "/door", "", b"").await.status, 204);
    assert_eq!(server.get("/door", "").await.status, 404);
}

#[tokio::test]
async fn what_is_no_picture_is_refused_with_a_reason_and_counted() {
    let settings = Settings { max_frame_bytes: 100_000, max_pixels: 640 * 360, ..Settings::default() };
    let server = Server::start(settings).await;
    let good = jpeg("testsrc", 320, 180);
    let refusals = [
        (&good[..good.len() / 2], 415, "bad_picture", "cut off"),
        (&b"GIF89a..."[..], 415, "bad_picture", "FF D8"),
        (&jpeg("red", 1280, 720)[..], 413, "message_too_large", "1280 x 720"),
        (&vec![0xff; 200_000][..], 413, "message_too_large", "100000 bytes"),
    ];
    for (bytes, status, code, reason) in refusals {
        let answer = server.post("/door/frames", "image/jpeg", bytes).await;
        assert_eq!((answer.status, answer.code()), (status, code.to_owned()));
        assert!(answer.text().contains(reason), "{}", answer.text());
    }
    let wrong = server.post("/door/frames", "image/png", &good).await;
    assert_eq!((wrong.status, wrong.code()), (415, "unsupported_encoding".to_owned()));
    assert_eq!(server.post("/a%2Fb/frames", "image/jpeg", &good).await.code(), "bad_request");
    let counters = server.cameras.counters();
    assert_eq!((counters.cameras, counters.frames_in), (0, 0));
    assert_eq!(counters.refused.iter().sum::<u64>(), 3, "{counters:?}");
}

#[tokio::test]
async fn ffmpeg_sends_all_its_pictures_in_one_request_and_reads_them_again_as_mjpeg() {
    let server = Server::start(Settings { max_fps: 1000, ..Settings::default() }).await;
    let url = format!("http://{}{}/door", server.address, story::CAMERAS);
    let mut sending = tokio::process::Command::new("ffmpeg")
        .args(
            "-v error -re -f lavfi -i testsrc=s=320x180:r=20 -t 3 -f mpjpeg -method POST -chunked_post 1"
                .split(' '),
        )
        .args(["-content_type", "multipart/x-mixed-replace; boundary=ffmpeg", &format!("{url}/frames")])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("ffmpeg runs");
    server.until(|counters| counters.frames_in >= 1).await;
    let reading = tokio::process::Command::new("ffprobe")
        .args("-v error -f mpjpeg -read_intervals %+#20 -count_frames -show_entries stream=codec_name,width,nb_read_frames -of json".split(' '))
        .arg(format!("{url}/mjpeg"))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let read = tokio::time::timeout(Duration::from_secs(20), reading).await.expect("it ends").unwrap();
    let read: Value = serde_json::from_slice(&read.stdout).expect("ffprobe tells what it read");
    let stream = &read["streams"][0];
    assert_eq!(
        (stream["codec_name"].as_str(), stream["width"].as_u64()),
        (Some("mjpeg"), Some(320)),
        "{read}"
    );
    assert!(sending.wait().await.unwrap().success());
    server.until(|counters| counters.frames_in == 60 && counters.viewers == [0; 3]).await;
    let counters = server.cameras.counters();
    assert!(counters.frames_out >= 20, "{counters:?}");
}

#[tokio::test]
async fn websockets_carry_frames_both_ways_and_tell_what_is_wrong() {
    let server = Server::start(Settings { max_fps: 1000, ..Settings::default() }).await;
    let mut camera = server.connect("/door/send").await;
    assert_eq!(camera.json().await["type"], "ready");
    let pictures = ["red", "green", "blue"].map(|colour| jpeg(colour, 640, 360));
    camera.send(&pictures[0]).await;
    server.until(|counters| counters.frames_in == 1).await;

    let mut viewer = server.connect("/door/watch").await;
    assert_eq!(viewer.binary().await, pictures[0]);
    for picture in &pictures[1..] {
        camera.send(picture).await;
        assert_eq!(viewer.binary().await, *picture);
    }
    camera.send(b"nonsense").await;
    assert_eq!(camera.json().await["error"]["code"], "bad_picture");
    camera.send(&pictures[0]).await;
    assert_eq!(viewer.binary().await, pictures[0]);

    let mut nobody = server.connect("/roof/watch").await;
    assert_eq!(nobody.json().await["error"]["code"], "camera_not_found");
    assert_eq!(nobody.closed().await, 4404);
    assert_eq!(server.request("DELETE", "/door", "", b"").await.status, 204);
    assert_eq!(viewer.json().await["error"]["code"], "camera_not_found");
    assert_eq!(viewer.closed().await, 4404);
}

#[tokio::test]
async fn a_viewer_that_does_not_read_holds_up_nobody_and_later_gets_the_newest() {
    let server = Server::start(Settings { max_fps: 1000, ..Settings::default() }).await;
    // Larger than what the system would put away for a connection.
    let pictures = ["red", "testsrc2", "mandelbrot"].map(|source| jpeg(source, 1920, 1080));
    server.post("/door/frames", "image/jpeg", &pictures[0]).await;
    let mut slow = server.connect("/door/watch").await;
    let mut quick = server.connect("/door/watch").await;
    assert_eq!(quick.binary().await, pictures[0]);
    for turn in 0..200 {
        let picture = &pictures[1 + turn % 2];
        server.post("/door/frames", "image/jpeg", picture).await;
        assert_eq!(quick.binary().await, *picture, "{turn}");
    }
    server.post("/door/frames", "image/jpeg", &pictures[0]).await;
    let mut read = 1;
    assert_eq!(slow.binary().await, pictures[0]);
    while slow.binary().await != pictures[0] {
        read += 1;
    }
    let counters = server.cameras.counters();
    assert!(counters.frames_skipped > 50 && read < 150, "{read} {counters:?}");
}

#[tokio::test]
async fn events_carry_base64_and_come_at_the_asked_for_rate() {
    let server = Server::start(Settings { max_fps: 1000, ..Settings::default() }).await;
    let picture = jpeg("red", 64, 64);
    server.post("/door/frames", "image/jpeg", &picture).await;
    let mut events = server.stream("/door/events?fps=120").await;
    let event = events.event().await;
    let data: Value = serde_json::from_str(&event).unwrap();
    assert_eq!((data["type"].as_str(), data["frame"].as_u64()), (Some("binary"), Some(1)));
    let bytes = story::from_base64(data["binary_data"].as_str().unwrap());
    assert_eq!(bytes, picture);
    server.post("/door/frames", "image/jpeg", &picture).await;
    let second: Value = serde_json::from_str(&events.event().await).unwrap();
    assert_eq!(second["frame"], 2);
    assert_eq!(server.get("/door/events?fps=0", "").await.code(), "bad_request");
}

#[tokio::test]
async fn who_may_send_and_who_may_look_is_what_tokens_say() {
    let server = Server::start_closed().await;
    let picture = jpeg("red", 64, 64);
    let [anna, boris, eve] = ["anna", "boris", "eve"].map(Server::token);
    let post = |token: String, picture: Vec<u8>| {
        let server = &server;
        async move {
            let headers = format!("Authorization: Bearer {token}\r\nContent-Type: image/jpeg\r\n");
            let answer = server.request("POST", "/door/frames", &headers, &picture).await;
            (answer.status, answer.code())
        }
    };
    assert_eq!(server.post("/door/frames", "image/jpeg", &picture).await.status, 401);
    assert_eq!(post(eve.clone(), picture.clone()).await, (403, "forbidden".to_owned()));
    assert_eq!(post(anna.clone(), picture.clone()).await.0, 200);
    assert_eq!(post(boris.clone(), picture.clone()).await, (409, "camera_taken".to_owned()));
    assert_eq!(server.get(&format!("/door/latest.jpg?token={eve}"), "").await.status, 200);
    assert_eq!(server.get("/door/latest.jpg", "").await.status, 401);
    let headers = |token: &str| format!("Authorization: Bearer {token}\r\n");
    assert_eq!(server.request("DELETE", "/door", &headers(&boris), b"").await.status, 403);
    assert_eq!(server.request("DELETE", "/door", &headers(&anna), b"").await.status, 204);
    let mut refused = server.connect(&format!("/door/send?token={eve}")).await;
    assert_eq!(refused.json().await["error"]["code"], "forbidden");
    assert_eq!(refused.closed().await, 4403);
    assert_eq!(
        server.request("POST", "/door/frames", "Origin: https://other.example\r\n", b"").await.code(),
        "forbidden_origin"
    );
}
