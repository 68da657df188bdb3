//! All cameras, by room and name.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;
use veche_doors::{Error, ErrorKind};

use crate::camera::{Camera, End, Owner};
use crate::counters::Tally;
use crate::jpeg::{self, Fault};
use crate::settings::Settings;

/// All cameras.
#[derive(Debug)]
pub(crate) struct Registry {
    settings: Settings,
    tally: Arc<Tally>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    stopping: bool,
    rooms: BTreeMap<Arc<str>, BTreeMap<Arc<str>, Arc<Camera>>>,
    count: usize,
}

/// A frame that was taken.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) camera: Arc<Camera>,
    /// Its number.
    pub(crate) number: u64,
}

impl Registry {
    pub(crate) fn new(settings: Settings, tally: Arc<Tally>) -> Self {
        Self { settings, tally, state: Mutex::default() }
    }

    /// Takes a picture of a camera, which is there from its first on.
    pub(crate) fn put(
        &self,
        room_id: &str,
        name: &str,
        owner: &Owner,
        bytes: &Bytes,
    ) -> Result<Taken, Error> {
        if let Some(camera) = self.find(room_id, name) {
            self.check_owner(&camera, owner)?;
            self.check_rate(&camera)?;
        }
        let limit = self.settings.max_frame_bytes;
        if bytes.len() > limit {
            self.tally.refuse("too_large");
            return Err(too_large(limit));
        }
        let jpeg = jpeg::inspect(bytes, self.settings.max_pixels).map_err(|fault| {
            self.tally.refuse(fault.name());
            refused(fault)
        })?;
        let camera = self.find_or_make(room_id, name, owner)?;
        let number = camera.show(bytes.slice(..jpeg.len), jpeg);
        self.tally.frames_in.add(1);
        self.tally.bytes_in.add(jpeg.len as u64);
        Ok(Taken { camera, number })
    }

    /// The camera of this name.
    pub(crate) fn get(&self, room_id: &str, name: &str) -> Result<Arc<Camera>, Error> {
        self.find(room_id, name).ok_or_else(|| {
            let message = format!(
                "no camera `{name}` sends in the room `{room_id}`; GET …/cameras lists those that do"
            );
            Error::new(ErrorKind::CameraNotFound, message)
        })
    }

    /// Those of a room, by name.
    pub(crate) fn of_room(&self, room_id: &str) -> Vec<Arc<Camera>> {
        self.state.lock().rooms.get(room_id).map(|room| room.values().cloned().collect()).unwrap_or_default()
    }

    pub(crate) fn len(&self) -> usize {
        self.state.lock().count
    }

    /// Removes a camera. If it still sends it is there again with its next frame.
    pub(crate) fn remove(&self, camera: &Camera) {
        self.state.lock().remove(camera, End::Removed);
    }

    /// Removes those of a room that was deleted.
    pub(crate) fn remove_room(&self, room_id: &str) {
        let mut state = self.state.lock();
        let removed = state.rooms.remove(room_id).unwrap_or_default();
        state.count -= removed.len();
        for camera in removed.values() {
            camera.end(End::Removed);
        }
    }

    /// Removes those that have been silent for too long.
    pub(crate) fn sweep(&self, now: Instant) {
        let idle = Duration::from_secs(u64::from(self.settings.idle_seconds));
        let mut state = self.state.lock();
        let cameras = state.rooms.values().flat_map(BTreeMap::values);
        let silent: Vec<_> = cameras.filter(|camera| camera.heard_at() + idle <= now).cloned().collect();
        for camera in &silent {
            state.remove(camera, End::Silent);
        }
    }

    /// Ends all of them, and takes none any more.
    pub(crate) fn stop(&self) {
        let mut state = self.state.lock();
        state.stopping = true;
        state.count = 0;
        for camera in std::mem::take(&mut state.rooms).values().flat_map(BTreeMap::values) {
            camera.end(End::Stopping);
        }
    }

    fn find(&self, room_id: &str, name: &str) -> Option<Arc<Camera>> {
        self.state.lock().rooms.get(room_id)?.get(name).cloned()
    }

    fn find_or_make(&self, room_id: &str, name: &str, owner: &Owner) -> Result<Arc<Camera>, Error> {
        let mut state = self.state.lock();
        if state.stopping {
            return Err(End::Stopping.error());
        }
        let in_room = state.rooms.get(room_id);
        if let Some(camera) = in_room.and_then(|room| room.get(name)) {
            self.check_owner(camera, owner)?;
            return Ok(camera.clone());
        }
        let Settings { max_cameras, max_cameras_per_room, max_fps, .. } = self.settings;
        let full = if in_room.is_some_and(|room| room.len() >= max_cameras_per_room) {
            Some(format!("the room has {max_cameras_per_room} cameras, as many as it may have"))
        } else if state.count >= max_cameras {
            Some(format!("there are {max_cameras} cameras, as many as there may be"))
        } else {
            None
        };
        if let Some(message) = full {
            self.tally.refuse("refused");
            return Err(Error::new(ErrorKind::TooManyCameras, message));
        }
        let (room_id, name): (Arc<str>, Arc<str>) = (room_id.into(), name.into());
        let camera = Arc::new(Camera::new(room_id.clone(), name.clone(), owner.clone(), max_fps));
        // Its first frame counts too.
        camera.has_room();
        state.rooms.entry(room_id).or_default().insert(name, camera.clone());
        state.count += 1;
        Ok(camera)
    }

    fn check_owner(&self, camera: &Camera, owner: &Owner) -> Result<(), Error> {
        if camera.is_of(owner) {
            return Ok(());
        }
        self.tally.refuse("refused");
        let message = format!("somebody else sends as the camera `{}`; choose another name", camera.name);
        Err(Error::new(ErrorKind::CameraTaken, message))
    }

    fn check_rate(&self, camera: &Camera) -> Result<(), Error> {
        if camera.has_room() {
            return Ok(());
        }
        self.tally.refuse("too_fast");
        let max_fps = self.settings.max_fps;
        let message = format!("more than {max_fps} frames a second; some were dropped: send fewer");
        Err(Error::new(ErrorKind::RateLimited, message))
    }
}

impl State {
    /// Removes this very camera, not another of the same name.
    fn remove(&mut self, camera: &Camera, end: End) {
        let Some(room) = self.rooms.get_mut(&camera.room_id) else { return };
        if room.get(&camera.name).is_some_and(|listed| std::ptr::eq(&raw const **listed, camera)) {
            room.remove(&camera.name);
            self.count -= 1;
            if room.is_empty() {
                self.rooms.remove(&camera.room_id);
            }
            camera.end(end);
        }
    }
}

/// Why a picture of too many bytes is refused.
pub(crate) fn too_large(limit: usize) -> Error {
    let message = format!("a picture may have {limit} bytes; send smaller ones, or with a lower quality");
    Error::new(ErrorKind::MessageTooLarge, message)
}

fn refused(fault: Fault) -> Error {
    let kind = match fault {
        Fault::TooManyPixels(..) => ErrorKind::MessageTooLarge,
        _ => ErrorKind::BadPicture,
    };
    Error::new(kind, fault.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jpeg::tests::picture;

    fn registry(settings: Settings) -> Registry {
        Registry::new(settings, Arc::default())
    }

    fn owner(name: &str) -> Owner {
        let mut identity = veche_access::Identity::default();
        identity.user_id = (!name.is_empty()).then(|| name.into());
        Owner::of(&identity)
    }

    fn code(result: Result<Taken, Error>) -> &'static str {
        result.map_or_else(|error| error.kind.code(), |_| "taken")
    }

    #[tokio::test(start_paused = true)]
    async fn the_newest_frame_takes_the_place_of_the_one_before_and_a_silent_camera_goes() {
        let registry = registry(Settings::default());
        let jpeg = Bytes::from(picture(8, 8, 0xc0, 1));
        let anna = owner("anna");
        let first = registry.put("tea", "door", &anna, &jpeg).unwrap();
        assert_eq!(first.number, 1);
        let mut watch = first.camera.watch();
        assert_eq!(registry.put("tea", "door", &anna, &jpeg).unwrap().number, 2);
        assert_eq!(watch.borrow_and_update().frame.as_ref().unwrap().number, 2);
        tokio::time::advance(Duration::from_secs(59)).await;
        registry.sweep(Instant::now());
        assert_eq!(registry.len(), 1);
        tokio::time::advance(Duration::from_secs(1)).await;
        registry.sweep(Instant::now());
        assert_eq!(registry.len(), 0);
        assert_eq!(watch.borrow_and_update().end, Some(End::Silent));
        assert_eq!(registry.put("tea", "door", &anna, &jpeg).unwrap().number, 1);
        // One that is gone takes nobody else's place away.
        registry.remove(&first.camera);
        assert_eq!(registry.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn cameras_belong_to_somebody_and_there_are_only_so_many() {
        let registry = registry(Settings { max_cameras: 3, max_cameras_per_room: 2, ..Settings::default() });
        let jpeg = Bytes::from(picture(8, 8, 0xc0, 1));
        let put = |room: &str, name: &str, who: &str| registry.put(room, name, &owner(who), &jpeg);
        assert_eq!(code(put("tea", "door", "anna")), "taken");
        assert_eq!(code(put("tea", "door", "boris")), "camera_taken");
        assert_eq!(code(put("tea", "door", "")), "camera_taken");
        assert_eq!(code(put("tea", "hall", "boris")), "taken");
        assert_eq!(code(put("tea", "roof", "boris")), "too_many_cameras");
        assert_eq!(code(put("coffee", "door", "boris")), "taken");
        assert_eq!(code(put("milk", "door", "boris")), "too_many_cameras");
        registry.remove_room("tea");
        assert_eq!((registry.len(), registry.of_room("tea").len()), (1, 0));
        assert_eq!(code(put("milk", "door", "boris")), "taken");
        registry.stop();
        assert_eq!(code(put("milk", "door", "boris")), "server_stopping");
        assert_eq!(registry.tally.read(0).refused.iter().sum::<u64>(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_camera_that_sends_too_fast_is_thinned_out_and_no_bad_picture_makes_one() {
        let settings = Settings { max_fps: 10, max_frame_bytes: 1024, ..Settings::default() };
        let registry = registry(settings);
        let jpeg = Bytes::from(picture(8, 8, 0xc0, 1));
        let anna = owner("anna");
        for bad in [Bytes::from_static(b"GIF89a"), jpeg.slice(..20), Bytes::from(vec![0xff; 2000])] {
            assert!(registry.put("tea", "door", &anna, &bad).is_err());
        }
        assert_eq!(registry.len(), 0);
        let mut taken = 0;
        // 100 a second for ten seconds.
        for _ in 0..1000 {
            taken += u32::from(registry.put("tea", "door", &anna, &jpeg).is_ok());
            tokio::time::advance(Duration::from_millis(10)).await;
        }
        assert!((100..=111).contains(&taken), "{taken}");
    }
}
