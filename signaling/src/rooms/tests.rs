use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::*;
use crate::link::Outgoing;

const ROOM: &str = "tea";

struct Story {
    rooms: Arc<Rooms>,
    commands: flume::Receiver<(RoomId, Command)>,
}

impl Story {
    fn new() -> Self {
        let (media, commands) = Media::queue(64);
        Self { rooms: Arc::new(Rooms::new(Settings::default(), media, Authority::open())), commands }
    }

    async fn join(&self, peer_id: &str, resume_token: Option<&str>) -> (Seat, Outbox, Value) {
        let request = JoinRequest {
            room_id: ROOM.into(),
            name: None,
            peer_id: Some(peer_id.into()),
            resume_token: resume_token.map(str::to_owned),
            ..JoinRequest::default()
        };
        let (seat, mut outbox) = self.rooms.join(&request).await.unwrap();
        let joined = next(&mut outbox);
        assert_eq!(joined["signal_type"], "joined");
        (seat, outbox, joined)
    }

    fn removed(&self) -> usize {
        self.commands
            .drain()
            .filter(|(_, command)| matches!(command, Command::RemoveParticipant { .. }))
            .count()
    }
}

fn next(outbox: &mut Outbox) -> Value {
    match outbox.try_next() {
        Some(Outgoing::Message(message)) => serde_json::from_slice(&message).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn token(joined: &Value) -> &str {
    joined["resume_token"].as_str().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_place_is_kept_for_thirty_seconds_and_then_lost() {
    let story = Story::new();
    let (_anna, mut outbox, _) = story.join("anna", None).await;
    let (boris, _, joined) = story.join("boris", None).await;
    assert_eq!(next(&mut outbox)["signal_type"], "participant-joined");
    story.rooms.disconnect(boris);
    assert_eq!(next(&mut outbox)["participant"]["connected"], false);

    sleep(Duration::from_secs(29)).await;
    assert_eq!(story.rooms.counts().participants, 2);
    let (boris, _, again) = story.join("boris", Some(token(&joined))).await;
    assert_eq!(again["resumed"], true);
    assert_eq!(next(&mut outbox)["participant"]["connected"], true);
    // The timer of the first loss does not end the second connection.
    sleep(Duration::from_mins(1)).await;
    assert_eq!(story.removed(), 0);

    story.rooms.disconnect(boris);
    next(&mut outbox);
    sleep(Duration::from_secs(31)).await;
    let left = next(&mut outbox);
    assert_eq!(
        (left["signal_type"].as_str(), left["reason"].as_str()),
        (Some("participant-left"), Some("timed-out"))
    );
    assert_eq!(story.removed(), 1);
    let (_, _, late) = story.join("boris", Some(token(&again))).await;
    assert_eq!((late["resumed"].as_bool(), late["peer_id"].as_str()), (Some(false), Some("boris")));
}

#[tokio::test(start_paused = true)]
async fn a_room_made_by_a_join_outlives_its_last_participant_by_the_resume_window() {
    let story = Story::new();
    let (anna, _, _) = story.join("anna", None).await;
    story.rooms.disconnect(anna);
    sleep(Duration::from_secs(20)).await;
    assert_eq!(story.rooms.counts().rooms, 1);
    sleep(Duration::from_secs(11)).await;
    assert_eq!(story.rooms.counts(), Counts { rooms: 0, participants: 0, connections: 0 });
}

#[tokio::test(start_paused = true)]
async fn a_peer_id_that_is_taken_is_only_a_wish_for_who_resumes_too_late() {
    let story = Story::new();
    let (_anna, _, _) = story.join("anna", None).await;
    let (_, _, joined) = story.join("anna", Some("a token of another day")).await;
    assert_eq!(joined["resumed"], false);
    assert_ne!(joined["peer_id"], "anna");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_too_slowly_is_cut_and_finds_everything_when_it_resumes() {
    let (media, _commands) = Media::queue(64);
    let settings = Settings { max_queued_bytes: 2000, ..Settings::default() };
    let rooms = Arc::new(Rooms::new(settings, media, Authority::open()));
    let story = Story { rooms, commands: flume::bounded(1).1 };
    let (seat, slow, joined) = story.join("slow", None).await;
    for index in 0..20 {
        story.join(&format!("peer{index}"), None).await;
    }
    tokio::time::timeout(Duration::from_secs(1), slow.overflow()).await.expect("the slow client is cut");
    story.rooms.disconnect(seat);
    let request = JoinRequest {
        room_id: ROOM.into(),
        resume_token: Some(token(&joined).to_owned()),
        ..JoinRequest::default()
    };
    let (seat, _) = story.rooms.join(&request).await.unwrap();
    assert_eq!(&*seat.peer_id, "slow");
}

#[tokio::test(start_paused = true)]
async fn a_media_plane_that_has_stopped_takes_nobody_in() {
    let story = Story::new();
    drop(story.commands);
    let request = JoinRequest { room_id: ROOM.into(), ..JoinRequest::default() };
    let error = story.rooms.join(&request).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::ServerStopping);
    assert_eq!(story.rooms.counts().rooms, 0);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_was_replaced_or_lost_changes_nothing_any_more() {
    let story = Story::new();
    let (replaced, mut first, joined) = story.join("anna", None).await;
    let (seat, _second, again) = story.join("anna", Some(token(&joined))).await;
    story.commands.drain();
    for text in [
        r#"{"signal_type":"update","name":"Mallory"}"#,
        r#"{"signal_type":"subscribe","slots":[]}"#,
        r#"{"signal_type":"offer","sdp":""}"#,
        r#"{"signal_type":"x","target_peer_id":"anna"}"#,
        r#"{"signal_type":"leave"}"#,
    ] {
        crate::inbound::handle_text(&story.rooms, &replaced, text).await.unwrap();
    }
    assert!(story.commands.is_empty());
    assert_eq!(story.rooms.counts().participants, 1);
    assert_eq!(seat.room.lock().participants()[0].name, "anna");
    assert!(matches!(first.try_next(), Some(Outgoing::Close(_))));
    assert!(first.try_next().is_none());

    story.rooms.disconnect(seat.clone());
    crate::inbound::handle_text(&story.rooms, &seat, r#"{"signal_type":"leave"}"#).await.unwrap();
    let (_, _, resumed) = story.join("anna", Some(token(&again))).await;
    assert_eq!(resumed["resumed"], true);
}

#[tokio::test(start_paused = true)]
async fn who_is_deleted_with_a_room_while_coming_in_does_not_stay_in_the_media_plane() {
    let (media, commands) = Media::queue(1);
    let rooms = Arc::new(Rooms::new(Settings::default(), media, Authority::open()));
    let request = |peer_id: &str| JoinRequest {
        room_id: ROOM.into(),
        peer_id: Some(peer_id.into()),
        ..JoinRequest::default()
    };
    rooms.join(&request("anna")).await.unwrap();
    // The queue is full: boris waits with the addition, while the room goes.
    let joining = tokio::spawn({
        let (rooms, request) = (rooms.clone(), request("boris"));
        async move { rooms.join(&request).await.map(|(seat, _)| seat.participant) }
    });
    sleep(Duration::from_millis(1)).await;
    rooms.delete_room(ROOM).unwrap();
    let mut there = std::collections::HashSet::new();
    while let Ok(Ok((_, command))) = tokio::time::timeout(Duration::from_secs(1), commands.recv_async()).await
    {
        match command {
            Command::AddParticipant { participant, .. } => there.insert(participant),
            Command::RemoveParticipant { participant } => there.remove(&participant),
            other => panic!("{other:?}"),
        };
    }
    joining.await.unwrap().unwrap();
    assert!(there.is_empty(), "{there:?}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_slowly_is_busy_and_not_cut() {
    let (media, _commands) = Media::queue(64);
    let rooms = Arc::new(Rooms::new(
        Settings { max_queued_bytes: 4000, ..Settings::default() },
        media,
        Authority::open(),
    ));
    let story = Story { rooms, commands: flume::bounded(1).1 };
    let (_slow, outbox, _) = story.join("slow", None).await;
    let (fast, _outbox, _) = story.join("fast", None).await;
    let text = r#"{"signal_type":"x","target_peer_id":"slow"}"#;
    let mut told = Ok(());
    for _ in 0..100 {
        told = told.and(crate::inbound::handle_text(&story.rooms, &fast, text).await);
    }
    assert_eq!(told.unwrap_err().0.kind, ErrorKind::PeerBusy);
    let cut = tokio::time::timeout(Duration::from_secs(1), outbox.overflow()).await;
    assert!(cut.is_err(), "the slow client is not cut");
}

#[tokio::test(start_paused = true)]
async fn a_question_is_forgotten_when_who_asks_goes_away_or_nobody_answers() {
    let (media, commands) = Media::queue(1);
    let story =
        Story { rooms: Arc::new(Rooms::new(Settings::default(), media, Authority::open())), commands };
    // With this the queue is full.
    let (seat, _, _) = story.join("anna", None).await;
    let waiting = || {
        let registry = story.rooms.registry.lock();
        registry.timeline_by_request.len() + registry.stats_by_request.len()
    };
    let ask = |seconds| {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        story.rooms.timeline(&seat.room, seat.participant, deadline)
    };
    for queue_is_full in [true, false] {
        if !queue_is_full {
            story.commands.drain();
        }
        let mut asking = Box::pin(ask(60));
        tokio::time::timeout(Duration::from_secs(1), &mut asking).await.expect_err("nobody answers");
        assert_eq!(waiting(), 1);
        drop(asking);
        assert_eq!(waiting(), 0, "the queue is full: {queue_is_full}");
    }
    assert_eq!(ask(1).await.unwrap_err().kind, ErrorKind::MediaUnavailable);
    let deadline = Instant::now() + Duration::from_secs(1);
    assert!(story.rooms.stats(&seat.room, deadline).await.is_empty());
    assert_eq!(waiting(), 0);
}

/// Somebody who moderates nothing.
async fn guest() -> Identity {
    let secret = veche_access::Secret::Text("a secret of at least 32 bytes, for tests".into());
    let settings = veche_access::AccessSettings { secrets: vec![secret], ..Default::default() };
    let authority = Authority::new(&settings, None).unwrap();
    authority.identify(veche_access::Door::Signaling, None).await.unwrap()
}

/// A room whose moderator has everybody wait, and somebody who does.
async fn waiting(story: &Story) -> (Seat, JoinRequest, Wait) {
    let (anna, _, _) = story.join("anna", None).await;
    let change = RoomChange { waiting_room: Some(true), ..RoomChange::default() };
    story.rooms.update_room(ROOM, change).unwrap();
    let (room_id, peer_id) = (ROOM.to_owned(), Some("boris".to_owned()));
    let boris = JoinRequest { room_id, peer_id, identity: guest().await, ..JoinRequest::default() };
    let wait = story.rooms.knock(&boris).unwrap().expect("they must wait");
    (anna, boris, wait)
}

#[tokio::test(start_paused = true)]
async fn a_room_stays_what_it_is_until_who_was_let_in_is_there() {
    let story = Story::new();
    let (anna, boris, mut wait) = waiting(&story).await;
    let room = story.rooms.room(ROOM).unwrap();
    room.lock().decide("boris", Ok(())).unwrap();
    wait.decided().await.unwrap();
    story.rooms.leave(&anna);
    // Nobody takes the name of who is on the way in.
    let other = JoinRequest { identity: guest().await, ..boris.clone() };
    assert_eq!(story.rooms.knock(&other).unwrap_err().kind, ErrorKind::PeerIdTaken);
    let (seat, _) = story.rooms.join(&JoinRequest { admitted: true, ..boris }).await.unwrap();
    drop(wait);
    assert!(Arc::ptr_eq(&room, &seat.room) && seat.room.lock().info.waiting_room);
    story.rooms.leave(&seat);
    assert_eq!(story.rooms.counts().rooms, 0);
}

#[tokio::test(start_paused = true)]
async fn who_was_let_in_and_goes_away_holds_no_room() {
    let story = Story::new();
    let (anna, _, wait) = waiting(&story).await;
    story.rooms.room(ROOM).unwrap().lock().decide("boris", Ok(())).unwrap();
    story.rooms.leave(&anna);
    assert_eq!(story.rooms.counts().rooms, 1);
    drop(wait);
    assert_eq!(story.rooms.counts().rooms, 0);
}

#[tokio::test(start_paused = true)]
async fn a_limit_may_be_as_large_as_numbers_are() {
    let settings = Settings { max_connections: usize::MAX, ..Settings::default() };
    let rooms = Rooms::new(settings, Media::queue(1).0, Authority::open());
    let permit = rooms.admit().unwrap();
    assert_eq!(rooms.counts().connections, 1);
    drop(permit);
    rooms.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_told_that_the_server_stops() {
    let story = Story::new();
    let (_anna, boris, mut wait) = waiting(&story).await;
    story.rooms.stop().await;
    assert_eq!(wait.decided().await.unwrap_err().kind, ErrorKind::ServerStopping);
    assert_eq!(story.rooms.knock(&boris).unwrap_err().kind, ErrorKind::ServerStopping);
}
