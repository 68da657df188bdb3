//! The views that the log leads to.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use veche_storage::{
    ChannelView, Database, Event, EventQuery, NewEvent, ParticipantView, RoomView, StorageSettings,
    TrackView, Views, kind, rebuild,
};

use crate::rig::{Rig, message, present};

/// Somebody lives through many random days of rooms and channels while storage records them, forgets old events and is
/// restarted. What storage rebuilds is what they remember.
pub(crate) async fn rebuilt_are_those_that_were_lived_through(rig: Rig) {
    for seed in 0..8 {
        // What happened before this seed ends with a start of the server.
        let settings = StorageSettings { events: 200, ..rig.settings.clone() };
        let mut database = Database::open(&settings, rig.folder()).await.unwrap();
        let first = *database.newest_sequence().borrow();
        let mut life = Life::new(seed, present() + seed as i64 * 1_000_000);
        life.record(&database, NewEvent::new(kind::SERVER_STARTED, life.time));
        for step in 0..400 {
            life.step(&database);
            if step % 97 == 96 {
                database.flush().await.unwrap();
                assert_eq!(database.views().await.unwrap(), life.remembered(), "seed {seed}, step {step}");
                database.prune(life.time).await.unwrap();
                database.close().await;
                database = Database::open(&settings, rig.folder()).await.unwrap();
            }
        }
        database.flush().await.unwrap();
        let remembered = life.remembered();
        assert_eq!(database.views().await.unwrap(), remembered, "seed {seed}");

        // The same events, as they were told: nobody needs storage to rebuild.
        let told: Vec<Event> =
            life.told.into_iter().zip(first + 1..).map(|(event, place)| numbered(event, place)).collect();
        assert_eq!(rebuild(&told), remembered, "seed {seed}");
        let kept = EventQuery { limit: 1_000, ..EventQuery::default() };
        assert!(
            database.events(&kept).await.unwrap().len() < told.len(),
            "seed {seed}: nothing was forgotten"
        );
        database.close().await;
    }
}

/// Rooms and channels as somebody would keep them who knows nothing of events, who tells what happens all the same.
struct Life {
    seed: u64,
    random: StdRng,
    time: i64,
    rooms: Vec<Room>,
    channels: Vec<Channel>,
    names: u64,
    told: Vec<NewEvent>,
}

struct Room {
    id: String,
    created: i64,
    topic: Option<String>,
    people: Vec<Person>,
    recording: Option<String>,
}

struct Person {
    id: String,
    name: String,
    user_id: Option<String>,
    joined: i64,
    tracks: Vec<(String, &'static str, i64, bool)>,
}

struct Channel {
    name: String,
    created: i64,
    offset: u64,
    files: Vec<(String, u64)>,
}

impl Life {
    fn new(seed: u64, time: i64) -> Self {
        let random = StdRng::seed_from_u64(seed);
        Self { seed, random, time, rooms: Vec::new(), channels: Vec::new(), names: 0, told: Vec::new() }
    }

    fn record(&mut self, database: &Database, event: NewEvent) {
        self.told.push(event.clone());
        database.record(event);
    }

    fn step(&mut self, database: &Database) {
        self.time += self.random.random_range(1..500);
        match self.random.random_range(0..100) {
            0..6 => self.create_room(database),
            6..11 => self.create_channel(database),
            11 => self.create_channel_by_file(database),
            12 => self.restart(database),
            13 => self.record(database, NewEvent::new("hub.something", self.time).data(json!([1, 2]))),
            14..16 => self.nonsense(database),
            16..60 => self.in_a_room(database),
            _ => self.in_a_channel(database),
        }
    }

    fn create_room(&mut self, database: &Database) {
        let id = self.name("room");
        let topic = self.random.random_bool(0.5).then(|| self.name("topic"));
        let data = topic.as_ref().map_or(json!({}), |topic| json!({ "topic": topic }));
        self.record(database, NewEvent::new(kind::ROOM_CREATED, self.time).room(&id).data(data));
        self.rooms.push(Room { id, created: self.time, topic, people: Vec::new(), recording: None });
    }

    fn create_channel(&mut self, database: &Database) {
        let name = self.name("channel");
        self.record(database, NewEvent::new(kind::CHANNEL_CREATED, self.time).channel(&name));
        self.channels.push(Channel { name, created: self.time, offset: 0, files: Vec::new() });
    }

    /// A file may come to a channel before anybody uses it.
    fn create_channel_by_file(&mut self, database: &Database) {
        let (name, file, size) = (self.name("channel"), self.name("file"), 7);
        let data = json!({ "file_id": file, "size": size });
        self.record(database, NewEvent::new(kind::FILE_UPLOADED, self.time).channel(&name).data(data));
        self.channels.push(Channel { name, created: self.time, offset: 0, files: vec![(file, size)] });
    }

    fn restart(&mut self, database: &Database) {
        self.record(database, NewEvent::new(kind::SERVER_STARTED, self.time));
        self.rooms.clear();
        self.channels.clear();
    }

    /// Events about what is not there change nothing.
    fn nonsense(&mut self, database: &Database) {
        let data = json!({ "participant_id": "nobody", "track_id": "none", "file_id": "none" });
        for kind in [kind::PARTICIPANT_LEFT, kind::TRACK_UNPUBLISHED, kind::ROOM_UPDATED, kind::FILE_DELETED]
        {
            let event = NewEvent::new(kind, self.time).room("nowhere").channel("nowhere").data(data.clone());
            self.record(database, event);
        }
    }

    fn in_a_room(&mut self, database: &Database) {
        if self.rooms.is_empty() {
            return;
        }
        let index = self.random.random_range(0..self.rooms.len());
        let (name, choice, time) = (self.name("x"), self.random.random_range(0..20), self.time);
        let room = &mut self.rooms[index];
        let person = room.people.len().checked_sub(1).map(|last| self.random.random_range(0..=last));
        let (kind, user, data) = match (choice, person) {
            (0, _) => {
                let room = self.rooms.swap_remove(index);
                self.record(database, NewEvent::new(kind::ROOM_DELETED, time).room(&room.id));
                return;
            }
            (1..3, _) => {
                room.topic = (choice == 1).then_some(name);
                (kind::ROOM_UPDATED, None, json!({ "topic": room.topic }))
            }
            (3, _) => {
                if let Some(id) = room.recording.take() {
                    (kind::RECORDING_STOPPED, None, json!({ "recording_id": id }))
                } else {
                    room.recording = Some(name.clone());
                    (kind::RECORDING_STARTED, None, json!({ "recording_id": name }))
                }
            }
            (4..11, _) | (_, None) => {
                let user_id = self.random.random_bool(0.5).then(|| format!("user of {name}"));
                let data = json!({ "participant_id": name, "name": format!("Имя {name}") });
                let person = Person {
                    id: name.clone(),
                    name: format!("Имя {name}"),
                    user_id: user_id.clone(),
                    joined: time,
                    tracks: Vec::new(),
                };
                room.people.push(person);
                (kind::PARTICIPANT_JOINED, user_id, data)
            }
            (11..14, Some(person)) => {
                let person = room.people.remove(person);
                (kind::PARTICIPANT_LEFT, person.user_id, json!({ "participant_id": person.id }))
            }
            (14, Some(person)) => {
                let person = &mut room.people[person];
                person.name.clone_from(&name);
                let data = json!({ "participant_id": person.id, "name": name });
                (kind::PARTICIPANT_UPDATED, person.user_id.clone(), data)
            }
            (15, Some(person)) => {
                let person = &mut room.people[person];
                let Some((track, source, _, muted)) = person.tracks.last_mut() else { return };
                (*source, *muted) = ("screen", !*muted);
                let data = json!({ "participant_id": person.id, "track_id": track, "kind": "video", "source": "screen", "muted": muted });
                (kind::TRACK_UPDATED, person.user_id.clone(), data)
            }
            (16..19, Some(person)) => {
                let person = &mut room.people[person];
                person.tracks.push((name.clone(), "camera", time, false));
                let data = json!({ "participant_id": person.id, "track_id": name, "kind": "video", "source": "camera" });
                (kind::TRACK_PUBLISHED, person.user_id.clone(), data)
            }
            (_, Some(person)) => {
                let person = &mut room.people[person];
                let Some((track, ..)) = person.tracks.pop() else { return };
                let data = json!({ "participant_id": person.id, "track_id": track });
                (kind::TRACK_UNPUBLISHED, person.user_id.clone(), data)
            }
        };
        let mut event = NewEvent::new(kind, time).room(&self.rooms[index].id).data(data);
        event.user_id = user;
        self.record(database, event);
    }

    fn in_a_channel(&mut self, database: &Database) {
        if self.channels.is_empty() {
            return;
        }
        let index = self.random.random_range(0..self.channels.len());
        let (name, time) = (self.name("file"), self.time);
        let channel = &mut self.channels[index];
        let (kind, data) = match self.random.random_range(0..20) {
            0 => {
                let channel = self.channels.swap_remove(index);
                self.record(database, NewEvent::new(kind::CHANNEL_DELETED, time).channel(&channel.name));
                return;
            }
            1..13 => {
                channel.offset += 1;
                let message = message(&channel.name, channel.offset);
                let mut event = NewEvent::new(kind::MESSAGE_KEPT, message.time).channel(&channel.name);
                event = event.data(json!({ "offset": channel.offset }));
                self.told.push(event);
                // Storage itself records the event.
                database.keep(message).unwrap();
                return;
            }
            13 => {
                // It is loaded again: what is known of it stays.
                channel.created = time;
                let channel = &self.channels[index].name;
                let event = NewEvent::new(kind::CHANNEL_CREATED, time).channel(channel);
                self.record(database, event);
                return;
            }
            14..17 => {
                channel.files.push((name.clone(), time.unsigned_abs()));
                (kind::FILE_UPLOADED, json!({ "file_id": name, "size": time }))
            }
            _ => {
                let Some((id, size)) = channel.files.pop() else { return };
                (kind::FILE_DELETED, json!({ "file_id": id, "size": size }))
            }
        };
        let event = NewEvent::new(kind, time).channel(&self.channels[index].name).data(data);
        self.record(database, event);
    }

    fn name(&mut self, prefix: &str) -> String {
        self.names += 1;
        format!("{prefix}-{}-{}", self.seed, self.names)
    }

    fn remembered(&self) -> Views {
        Views {
            rooms: self.rooms.iter().map(|room| (room.id.clone(), room.remembered())).collect(),
            channels: self
                .channels
                .iter()
                .map(|channel| (channel.name.clone(), channel.remembered()))
                .collect(),
        }
    }
}

impl Room {
    fn remembered(&self) -> RoomView {
        RoomView {
            created: self.created,
            data: self.topic.iter().map(|topic| ("topic".to_owned(), Value::from(topic.clone()))).collect(),
            participants: self.people.iter().map(|person| (person.id.clone(), person.remembered())).collect(),
            recordings: self.recording.iter().cloned().collect(),
        }
    }
}

impl Person {
    fn remembered(&self) -> ParticipantView {
        let track = |since: i64, source: &str, muted: bool| TrackView {
            kind: "video".to_owned(),
            source: source.to_owned(),
            published: since,
            muted,
        };
        ParticipantView {
            name: self.name.clone(),
            user_id: self.user_id.clone(),
            joined: self.joined,
            tracks: self
                .tracks
                .iter()
                .map(|(id, source, since, muted)| (id.clone(), track(*since, source, *muted)))
                .collect(),
        }
    }
}

impl Channel {
    fn remembered(&self) -> ChannelView {
        ChannelView {
            created: self.created,
            kept: self.offset,
            kept_offset: self.offset,
            files: self.files.iter().cloned().collect::<BTreeMap<_, _>>(),
        }
    }
}

fn numbered(event: NewEvent, sequence: i64) -> Event {
    let NewEvent { kind, room, channel, user_id, time, data } = event;
    Event { sequence, kind, room, channel, user_id, time, data }
}
