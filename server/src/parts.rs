//! The parts of the server: each is a crate of its own; here they meet.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};
use axum::Router;
use rustls::ServerConfig;
use tokio::task::JoinSet;
use utoipa::openapi::OpenApi;
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use veche_access::Authority;
use veche_cameras::Cameras;
use veche_files::{Clock, Files};
use veche_messaging::Messaging;
use veche_recorder::{Recorder, Settings as RecordingSettings};
use veche_sfu::{Sfu, SfuConfig};
use veche_signaling::{Media, Signaling, disabled_router};
use veche_storage::{Database, NewEvent, kind};
use veche_turn::Turn;

use crate::access;
use crate::config::Config;
use crate::listeners::PublicPort;
use crate::serve::ended;
use crate::turn::{self, Surroundings, Urls};
use crate::webhooks::Couriers;
use crate::whereabouts::{self, Followers, Whereabouts};

/// How long the media plane may take to say goodbye.
const MEDIA_STOP_WAIT: Duration = Duration::from_secs(2);

/// How long recordings may take to be written to their ends. What is not is mended at the next start.
const RECORDINGS_STOP_WAIT: Duration = Duration::from_secs(5);

/// How often it is looked for recordings that have expired.
const SWEEP_INTERVAL: Duration = Duration::from_hours(1);

/// What runs.
pub(crate) struct Parts {
    /// What outlives the process.
    pub(crate) database: Database,
    pub(crate) webhooks: Couriers,
    pub(crate) authority: Authority,
    /// Contents of files; `None` where they are switched off.
    pub(crate) files: Option<Files>,
    pub(crate) messaging: Messaging,
    /// The media plane and its rooms; `None` where they are switched off.
    pub(crate) calls: Option<Calls>,
    /// STUN and TURN; `None` where they are switched off, or the usual port is another program's.
    pub(crate) turn: Option<Turn>,
    /// Tells both where this machine is.
    pub(crate) whereabouts: Whereabouts,
}

/// The media plane, and the rooms that use it.
pub(crate) struct Calls {
    pub(crate) sfu: Sfu,
    pub(crate) signaling: Signaling,
    /// Those that send pictures; `None` where they are switched off.
    pub(crate) cameras: Option<Cameras>,
    /// `None` where recordings are switched off.
    pub(crate) recorder: Option<Recorder>,
}

impl Parts {
    /// Starts them. What of them should never end is in the tasks. `public` is the port that they share with HTTP, `tls` is how TLS is spoken, where there is a certificate.
    pub(crate) async fn start(
        config: &Config,
        public: PublicPort,
        tls: Option<Arc<ServerConfig>>,
        tasks: &mut JoinSet<anyhow::Error>,
    ) -> Result<Self> {
        let database = Database::open(&config.storage, &config.http.data_dir).await?;
        database.record(NewEvent::new(kind::SERVER_STARTED, now()));
        let webhooks = Couriers::new(database.clone());
        webhooks.prepare(&config.webhooks)?.start().await;
        let authority = access::authority(&config.access, &database)?;
        let files = open_files(config, &database, tasks).await?;
        let parts = veche_messaging::Parts {
            channels: config.channels.clone(),
            authority: authority.clone(),
            files: files.clone(),
            database: Some(database.clone()),
        };
        let mappings = whereabouts::first_look(config).await;
        let discovered = whereabouts::reached_at(&mappings);
        let enabled = config.signaling.enabled;
        let mut calls =
            enabled.then(|| Calls::start(config, &discovered, public, &authority, tasks)).transpose()?;
        let turn = start_turn(config, (calls.as_mut(), &discovered), &authority, (public, tls), tasks)?;
        let followers = Followers {
            authority: authority.clone(),
            media: calls.as_ref().map(|calls| calls.sfu.handle.clone()),
            turn: turn.as_ref().map(|(turn, urls)| (turn.handle.clone(), urls.clone())),
        };
        let whereabouts = Whereabouts::new(config.clone(), mappings, followers);
        let watched = whereabouts.clone();
        tasks.spawn(async move {
            watched.watch().await;
            anyhow!("what looks for the machine's addresses has ended")
        });
        // Last of what can fail: it takes the channels of before out of storage.
        let messaging = Messaging::start(config.messaging.clone(), parts).await?;
        if let Some(calls) = &calls {
            calls.connect(&messaging);
        }
        let turn = turn.map(|(turn, _)| turn);
        Ok(Self { database, webhooks, authority, files, messaging, calls, turn, whereabouts })
    }

    /// What they answer over HTTP.
    pub(crate) fn router(&self) -> Router {
        let calls = match &self.calls {
            Some(calls) => calls.router(),
            None => disabled_router(),
        };
        calls.merge(self.messaging.router())
    }

    /// What the HTTP API is, of all of them together. A server that wants no credentials takes requests without, too.
    pub(crate) fn description() -> OpenApi {
        let mut description = veche_signaling::description();
        description.merge(Messaging::document());
        description.merge(veche_cameras::description());
        let components = description.components.get_or_insert_default();
        let token = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
        components.add_security_scheme("token", SecurityScheme::Http(token));
        let api_key = ApiKey::Header(ApiKeyValue::new("X-API-Key"));
        components.add_security_scheme("api_key", SecurityScheme::ApiKey(api_key));
        let either = ["token", "api_key"].map(|name| SecurityRequirement::new(name, [""; 0]));
        description.security = Some(either.into());
        description
    }

    /// Tells everybody to come back later.
    pub(crate) async fn stop(&self) {
        let calls = async {
            if let Some(Calls { sfu, signaling, cameras, recorder }) = &self.calls {
                if let Some(cameras) = cameras {
                    cameras.stop();
                }
                signaling.stop().await;
                if let Some(recorder) = recorder {
                    let _ = tokio::time::timeout(RECORDINGS_STOP_WAIT, recorder.close()).await;
                }
                let _ = tokio::time::timeout(MEDIA_STOP_WAIT, sfu.handle.stop()).await;
            }
        };
        tokio::join!(calls, self.messaging.stop());
        // The last: calls that go through a relay are told through it that they end.
        if let Some(turn) = &self.turn {
            let _ = tokio::time::timeout(MEDIA_STOP_WAIT, turn.handle.stop()).await;
        }
    }

    /// Keeps what is to be kept, when nobody asks for anything any more.
    pub(crate) async fn close(&self) {
        if let Err(error) = self.database.flush().await {
            tracing::error!("not everything could be kept: {error}");
        }
        self.webhooks.stop().await;
        self.database.close().await;
    }
}

impl Calls {
    fn start(
        config: &Config,
        discovered: &[IpAddr],
        public: PublicPort,
        authority: &Authority,
        tasks: &mut JoinSet<anyhow::Error>,
    ) -> Result<Self> {
        let shared_tcp = config.shares_media().then(|| public.announced(config));
        let sfu = veche_sfu::start(SfuConfig { shared_tcp, ..config.sfu(discovered) })?;
        if let [first, .., last] = &sfu.handle.metrics()[..]
            && config.shares_media_udp()
        {
            tracing::info!(
                "TURN shares UDP port {} with the first media worker; the others have ports up to {}. Who reaches none of these gets \
                 to them over TURN; media.workers = 1 makes it one port for all",
                first.port,
                last.port
            );
        }
        let media = Media::from(sfu.handle.clone());
        let (signaling, pump) =
            Signaling::start(config.signaling.clone(), media, sfu.events.clone(), authority.clone());
        tasks.spawn(async { ended("what takes the media plane's reports", pump.await) });
        let recorder = open_recorder(config, &sfu, &signaling, tasks)?;
        let failures = sfu.failures.clone();
        tasks.spawn(async move {
            match failures.recv_async().await {
                Ok(failure) => failure.into(),
                Err(_) => anyhow!("all media workers have ended"),
            }
        });
        let cameras =
            config.cameras.enabled.then(|| Cameras::start(config.cameras.clone(), authority.clone()));
        if let Some(cameras) = &cameras {
            let rooms = signaling.clone();
            cameras.check_rooms(Arc::new(move |room_id| rooms.check_room(room_id)));
            let cameras = cameras.clone();
            signaling.on_room_deleted(Box::new(move |room_id| cameras.remove_room(room_id)));
        }
        Ok(Self { sfu, signaling, cameras, recorder })
    }

    /// Opens the channels of messaging to those who are in calls, and cameras to pictures that are sent into channels.
    fn connect(&self, messaging: &Messaging) {
        self.signaling.connect(messaging.clone());
        if let Some(cameras) = self.cameras.clone() {
            messaging.set_pictures(Arc::new(move |identity, channel, jpeg| {
                cameras.take_message(identity, channel, jpeg);
            }));
        }
    }

    fn router(&self) -> Router {
        let cameras = match &self.cameras {
            Some(cameras) => cameras.router(),
            None => veche_cameras::disabled_router(),
        };
        self.signaling.router().merge(cameras)
    }
}

/// Starts the TURN server, which clients of calls are told of.
fn start_turn(
    config: &Config,
    (calls, discovered): (Option<&mut Calls>, &[IpAddr]),
    authority: &Authority,
    (public, tls): (PublicPort, Option<Arc<ServerConfig>>),
    tasks: &mut JoinSet<anyhow::Error>,
) -> Result<Option<(Turn, Urls)>> {
    let media_ports = calls.as_ref().map(|calls| turn::media_ports(&calls.sfu.handle)).unwrap_or_default();
    let shared_udp = turn::shared_udp(config, &media_ports);
    let discovered = discovered.to_vec();
    let surroundings = Surroundings { media_ports, discovered, is_guarded: turn::is_guarded(authority), tls };
    let Some(turn) = turn::start(config, &surroundings)? else { return Ok(None) };
    let urls = Urls::new(config, &surroundings.discovered, public, (turn.handle.addresses(), &shared_udp));
    if let Some(calls) = calls {
        turn.handle.listen(std::mem::take(&mut calls.sfu.tenants));
        turn.handle.connect(calls.sfu.handle.open_hatches(&turn.handle.bells()?)?);
        let lifetime = config.turn.credential_lifetime();
        calls.signaling.set_turn(turn::source(urls.clone(), lifetime, turn.handle.clone()));
        calls.signaling.set_turn_reports(turn::reports(turn.handle.clone()));
    }
    let failures = turn.failures.clone();
    tasks.spawn(async move {
        match failures.recv_async().await {
            Ok(failure) => failure.into(),
            Err(_) => anyhow!("all TURN workers have ended"),
        }
    });
    Ok(Some((turn, urls)))
}

/// Opens the folder of the recordings, where they are not switched off, and deletes what expires for as long as the server runs.
fn open_recorder(
    config: &Config,
    sfu: &Sfu,
    signaling: &Signaling,
    tasks: &mut JoinSet<anyhow::Error>,
) -> Result<Option<Recorder>> {
    if !config.recording.enabled {
        return Ok(None);
    }
    let folder = config.http.data_dir.join(&config.recording.folder);
    let settings = RecordingSettings { folder: folder.clone(), ..config.recording.clone() };
    let (events, told) = flume::unbounded();
    let recorder = Recorder::open(settings, sfu.handle.clone(), events).map_err(|error| {
        let folder = folder.display();
        anyhow!("recording.folder: {folder}: {error}; name a folder that can be written, for example \"recordings\"")
    })?;
    signaling.set_recorder(recorder.clone(), told);
    let sweeper = recorder.clone();
    tasks.spawn(async move {
        let mut interval = tokio::time::interval(SWEEP_INTERVAL);
        loop {
            interval.tick().await;
            let sweeper = sweeper.clone();
            let swept =
                tokio::task::spawn_blocking(move || sweeper.sweep(std::time::SystemTime::now())).await;
            if let Err(error) = swept {
                return anyhow!("what deletes recordings that have expired has ended: {error}");
            }
        }
    });
    Ok(Some(recorder))
}

/// Opens them, where they are not switched off, and removes what expires for as long as the server runs.
async fn open_files(
    config: &Config,
    database: &Database,
    tasks: &mut JoinSet<anyhow::Error>,
) -> Result<Option<Files>> {
    if !config.files.enabled {
        return Ok(None);
    }
    let clock = Clock::system();
    let files = Files::open(config.files.clone(), &config.http.data_dir, database.clone(), clock).await?;
    let sweeper = files.clone();
    tasks.spawn(async move {
        sweeper.run().await;
        anyhow!("what removes expired files has ended")
    });
    Ok(Some(files))
}

/// In milliseconds since 1970.
fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as i64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What several parts describe under one name would be described wrongly by all but one of them.
    #[test]
    fn the_parts_describe_different_things_by_different_names() {
        let whole = serde_json::to_value(Parts::description()).unwrap();
        for part in [veche_signaling::description(), Messaging::document()] {
            let part = serde_json::to_value(part).unwrap();
            for (name, schema) in part["components"]["schemas"].as_object().unwrap() {
                assert_eq!(&whole["components"]["schemas"][name], schema, "{name}");
            }
        }
    }

    #[test]
    fn every_operation_has_a_name_of_its_own_and_parameters_stand_where_they_are_read() {
        let whole = serde_json::to_value(Parts::description()).unwrap();
        let mut names = BTreeSet::new();
        for (path, item) in whole["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let name = operation["operationId"].as_str().unwrap();
                assert!(names.insert(name.to_owned()), "{name} is there twice");
                for parameter in operation["parameters"].as_array().into_iter().flatten() {
                    let name = parameter["name"].as_str().unwrap();
                    let is_in_path = path.contains(&format!("{{{name}}}"));
                    assert_eq!(parameter["in"] == "path", is_in_path, "{name} of {method} {path}");
                }
            }
        }
        assert!(names.len() > 40, "{names:?}");
    }
}
