use serde_json::Value;
use tokio::time::sleep;

use super::*;
use crate::link::Outgoing;

const ROOM: &str = "tea";

struct Story {
    hub: Arc<Hub>,
    commands: flume::Receiver<(RoomId, Command)>,
}

impl Story {
    fn new() -> Self {
        let (media, commands) = Media::queue(64);
        Self { hub: Arc::new(Hub::new(Settings::default(), media)), commands }
    }

    async fn join(&self, peer_id: &str, resume_token: Option<&str>) -> (Seat, Outbox, Value) {
        let request = JoinRequest {
            room_id: ROOM.into(),
            name: None,
            peer_id: Some(peer_id.into()),
            resume_token: resume_token.map(str::to_owned),
        };
        let (seat, mut outbox) = self.hub.join(&request).await.unwrap();
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
    story.hub.disconnect(boris);
    assert_eq!(next(&mut outbox)["participant"]["connected"], false);

    sleep(Duration::from_secs(29)).await;
    assert_eq!(story.hub.counts().participants, 2);
    let (boris, _, again) = story.join("boris", Some(token(&joined))).await;
    assert_eq!(again["resumed"], true);
    assert_eq!(next(&mut outbox)["participant"]["connected"], true);
    // The timer of the first loss does not end the second connection.
    sleep(Duration::from_mins(1)).await;
    assert_eq!(story.removed(), 0);

    story.hub.disconnect(boris);
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
    story.hub.disconnect(anna);
    sleep(Duration::from_secs(20)).await;
    assert_eq!(story.hub.counts().rooms, 1);
    sleep(Duration::from_secs(11)).await;
    assert_eq!(story.hub.counts(), Counts { rooms: 0, participants: 0, connections: 0 });
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
    let hub = Arc::new(Hub::new(settings, media));
    let story = Story { hub, commands: flume::bounded(1).1 };
    let (seat, slow, joined) = story.join("slow", None).await;
    for index in 0..20 {
        story.join(&format!("peer{index}"), None).await;
    }
    tokio::time::timeout(Duration::from_secs(1), slow.overflow()).await.expect("the slow client is cut");
    story.hub.disconnect(seat);
    let request = JoinRequest {
        room_id: ROOM.into(),
        resume_token: Some(token(&joined).to_owned()),
        ..JoinRequest::default()
    };
    let (seat, _) = story.hub.join(&request).await.unwrap();
    assert_eq!(&*seat.peer_id, "slow");
}

#[tokio::test(start_paused = true)]
async fn a_media_plane_that_has_stopped_takes_nobody_in() {
    let story = Story::new();
    drop(story.commands);
    let request = JoinRequest { room_id: ROOM.into(), ..JoinRequest::default() };
    let error = story.hub.join(&request).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::ServerStopping);
    assert_eq!(story.hub.counts().rooms, 0);
}
