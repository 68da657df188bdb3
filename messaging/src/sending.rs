//! Sending on behalf of somebody: whether they may, and what becomes of bytes. Shared by sessions, HTTP and gRPC.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::to_raw_value;
use veche_access::{Action, Identity, Resource};
use veche_doors::{Error, ErrorKind};
use veche_files::{FileInfo, NewFile};
use veche_hub::{
    Binary, Body, ChannelName, Letter, Once, Publication, PublishError, Published, SendError, Sender, Sent,
    Signal,
};

use crate::protocol::answer::refusal;
use crate::protocol::{Content, Publish, Recipient, request};
use crate::{Shared, check};

/// Whose keys of anonymous callers are.
const ANONYMOUS: &str = "anonymous";

/// How a picture (JPEG) begins.
const JPEG_BEGINS: &[u8] = &[0xff, 0xd8, 0xff];

impl Shared {
    /// Whether somebody may send to a recipient. Channels that a session may use beyond its grants are its own matter.
    pub(crate) fn may_send(&self, identity: &Identity, to: &Recipient) -> Result<(), Error> {
        match to {
            Recipient::Channel(channel) => check(identity, Action::Send, Resource::Channel(channel.as_str())),
            Recipient::User(user_id) => check(identity, Action::Send, Resource::User(user_id)),
            Recipient::Connection(id) => match self.hub.user_of(*id) {
                Some(user_id) => check(identity, Action::Send, Resource::User(&user_id)),
                None => check(identity, Action::Send, Resource::Server),
            },
            Recipient::Everybody => check(identity, Action::Broadcast, Resource::Server),
        }
    }

    /// What goes out for what came in: bytes are checked, and put away as a file where they are too large to be inline and
    /// the sender may upload.
    pub(crate) async fn body(
        &self,
        content: Content,
        channel: Option<&ChannelName>,
        sender: &Sender,
        may_upload: impl FnOnce() -> Result<(), Error>,
    ) -> Result<Outgoing, Error> {
        let (data, content_type, filename) = match content {
            Content::Data(data) => return Ok(Outgoing::plain(Body::Data(data))),
            Content::Notification(notification) => {
                return Ok(Outgoing::plain(Body::Notification(notification)));
            }
            Content::Binary { data, content_type, filename } => (data, content_type, filename),
        };
        let files = self.files.as_ref().ok_or_else(|| {
            Error::new(ErrorKind::FilesDisabled, "binary data is switched off by BINARY_DATA_ENABLED")
        })?;
        let checked = files.check_inline(content_type.as_deref(), filename.as_deref(), &data)?;
        if data.len() <= files.inline_bytes() {
            return Ok(Outgoing::plain(inline(data, checked.content_type, checked.filename)));
        }
        may_upload()?;
        let new = NewFile {
            user_id: sender.user_id.as_deref().map(ToOwned::to_owned),
            by: sender.connection_id.map(|id| id.to_string()),
            channel: channel.map(ToString::to_string),
            filename: checked.filename,
            content_type: Some(checked.content_type),
            size: Some(data.len() as u64),
        };
        let info = files.store(new, &data).await?;
        Ok(Outgoing { body: file(&info)?, file_id: Some(info.file_id) })
    }

    /// The bytes of what may be a camera's picture, and the channel that it is sent into.
    pub(crate) fn picture(&self, to: &Recipient, content: &Content) -> Option<(ChannelName, Bytes)> {
        self.pictures.get()?;
        let (Recipient::Channel(channel), Content::Binary { data, content_type, .. }) = (to, content) else {
            return None;
        };
        let is_jpeg = content_type.as_deref().is_none_or(|kind| kind.eq_ignore_ascii_case("image/jpeg"));
        (is_jpeg && data.starts_with(JPEG_BEGINS)).then(|| (channel.clone(), data.clone()))
    }

    /// Gives it to cameras, when it has gone out.
    pub(crate) fn show_picture(&self, identity: &Identity, picture: Option<(ChannelName, Bytes)>) {
        if let (Some(sink), Some((channel, bytes))) = (self.pictures.get(), picture) {
            sink(identity, channel.as_str(), &bytes);
        }
    }

    /// Takes a file away again that was put away for a message that did not go out, or had gone out before.
    pub(crate) async fn take_back(&self, file_id: Option<String>, result: &Result<Outcome, Error>) {
        let (Some(file_id), Some(files)) = (file_id, &self.files) else { return };
        if result.as_ref().is_ok_and(|outcome| !outcome.is_repeated()) {
            return;
        }
        if let Err(error) = files.delete(&file_id).await {
            tracing::warn!(%error, file_id, "a file that nobody was told of stays");
        }
    }
}

/// What goes out, and the file that was put away for it.
pub(crate) struct Outgoing {
    pub(crate) body: Body,
    pub(crate) file_id: Option<String>,
}

impl Outgoing {
    fn plain(body: Body) -> Self {
        Self { body, file_id: None }
    }
}

impl Shared {
    /// Publishes in a channel, and waits until that is done, and the message kept where it is to be.
    pub(crate) async fn publish(&self, publication: Publication) -> Result<Outcome, Error> {
        let channel = publication.channel.clone();
        let refused = |error: PublishError| refusal(error.code(), error.to_string());
        let receipt = self.hub.publish(publication, self.now()).map_err(refused)?;
        receipt.await.map(|published| Outcome::Published(channel, published)).map_err(refused)
    }

    /// Sends to a user, a connection or everybody. A notification for a user passes by connections whose filters in the
    /// user's channel do not want it. Where no connection gets it, it goes to that channel, whose history they find when
    /// they come.
    pub(crate) async fn send(&self, mut letter: Letter) -> Result<Outcome, Error> {
        let offline = match (&letter.to, &letter.body) {
            (veche_hub::Recipient::User(user_id), Body::Notification(notification)) => {
                letter.filtered_as = ChannelName::new(&format!("user_{user_id}")).ok();
                letter.filtered_as.clone().map(|channel| {
                    (channel, notification.clone(), letter.sender.clone(), letter.once.clone())
                })
            }
            _ => None,
        };
        match (self.hub.send(letter, self.now()), offline) {
            (Ok(sent), _) => Ok(Outcome::Sent(sent)),
            // A key that was used may be that of the same notification, which went to the channel then.
            (
                Err(SendError::NoSuchUser | SendError::KeyReused),
                Some((channel, notification, sender, once)),
            ) => {
                let body = Body::Notification(notification);
                self.publish(Publication { sender, once, ..Publication::new(channel, body) }).await
            }
            (Err(error), _) => Err(refusal(error.code(), error.to_string())),
        }
    }
}

impl Shared {
    /// Sends something in the name of a caller without a connection, if they may.
    pub(crate) async fn dispatch(&self, identity: &Identity, publish: Publish) -> Result<Outcome, Error> {
        let Publish { to, content, persistent, idempotency_key } = publish;
        self.may_send(identity, &to)?;
        let once = once(identity, idempotency_key);
        let sender = sender(identity);
        let nobody = Sender { user_id: None, name: "".into(), connection_id: None };
        let by = sender.as_deref().unwrap_or(&nobody);
        let channel = if let Recipient::Channel(channel) = &to { Some(channel.clone()) } else { None };
        let picture = self.picture(&to, &content);
        let may_upload = || match &to {
            Recipient::Channel(name) => check(identity, Action::Upload, Resource::Channel(name.as_str())),
            // It is in no list of files.
            _ => Ok(()),
        };
        let Outgoing { body, file_id } = self.body(content, channel.as_ref(), by, may_upload).await?;
        let result = if let Some(channel) = channel {
            self.publish(Publication { sender, persistent, once, ..Publication::new(channel, body) }).await
        } else {
            self.send(Letter { sender, once, ..Letter::new(to_hub(to), body) }).await
        };
        self.take_back(file_id, &result).await;
        self.show_picture(identity, picture.filter(|_| result.is_ok()));
        result
    }

    /// Passes a signal to a connection, or to all of a user, or to a peer of a call, which sees `from` as the sender; `None`:
    /// it went to such a peer. Whether they may send in a room that it names, the caller has asked.
    pub(crate) async fn signal(
        &self,
        identity: &Identity,
        sender: Option<Arc<Sender>>,
        from: &str,
        signal: Signal,
    ) -> Result<Option<Outcome>, Error> {
        let target = &*signal.target_peer_id;
        let to = match request::connection(target) {
            Ok(connection) => Some(Recipient::Connection(connection)),
            Err(_) if !self.hub.find_connections(target).is_empty() => Some(Recipient::User(target.into())),
            Err(_) => None,
        };
        if let Some(to) = to {
            self.may_send(identity, &to)?;
            let letter = Letter { sender, ..Letter::new(to_hub(to), Body::Signal(signal)) };
            return self.send(letter).await.map(Some);
        }
        let nobody = || {
            let message = format!("target_peer_id: nobody is connected as `{target}`");
            Error::new(ErrorKind::RecipientNotFound, message)
        };
        let relay = self.peers().ok_or_else(nobody)?;
        relay(&signal, from)?;
        Ok(None)
    }
}

/// As whom a caller without a connection sends; `None`: nobody known.
pub(crate) fn sender(identity: &Identity) -> Option<Arc<Sender>> {
    let user_id = identity.user_id.clone()?;
    let name = identity.name.clone().unwrap_or_else(|| user_id.clone());
    Some(Arc::new(Sender { user_id: Some(user_id), name, connection_id: None }))
}

/// Where something went.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// Into a channel.
    Published(ChannelName, Published),
    /// To a user, a connection or everybody.
    Sent(Sent),
}

impl Outcome {
    fn is_repeated(&self) -> bool {
        match self {
            Self::Published(_, published) => published.repeated,
            Self::Sent(sent) => sent.repeated,
        }
    }
}

/// Bytes small enough to be in the message.
pub(crate) fn inline(data: Bytes, content_type: String, filename: Option<String>) -> Body {
    Body::Binary(Binary { data, content_type: content_type.into(), filename: filename.map(Into::into) })
}

/// The announcement of a file.
pub(crate) fn file(info: &FileInfo) -> Result<Body, Error> {
    let description = to_raw_value(info).map_err(|error| {
        Error::new(ErrorKind::StorageUnavailable, format!("a file's description: {error}"))
    })?;
    Ok(Body::File(veche_hub::File {
        size: info.size,
        content_type: info.content_type.as_str().into(),
        sha256: info.sha256.as_str().into(),
        description,
    }))
}

/// The hub's word for a recipient that is no channel.
pub(crate) fn to_hub(to: Recipient) -> veche_hub::Recipient {
    match to {
        Recipient::User(user_id) => veche_hub::Recipient::User(user_id.into()),
        Recipient::Connection(id) => veche_hub::Recipient::Connection(id),
        Recipient::Everybody | Recipient::Channel(_) => veche_hub::Recipient::Everybody,
    }
}

/// What makes a repetition of the same caller harmless.
pub(crate) fn once(identity: &Identity, key: Option<Box<str>>) -> Option<Once> {
    let scope = identity.user_id.clone().or_else(|| identity.key_id.clone());
    key.map(|key| Once { scope: scope.unwrap_or_else(|| ANONYMOUS.into()), key })
}
