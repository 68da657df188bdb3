//! Uploads in one request: a form with a file, and where it shall be told of.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::header;
use bytes::Bytes;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use veche_access::{Action, Identity};
use veche_doors::answers::BodyRefusals;
use veche_doors::extract::{Query, refuse_encoded};
use veche_doors::{Error, ErrorAnswer, ErrorKind};

use super::body::Arriving;
use super::multipart::{Parser, Part, Piece};
use super::repeats::Seen;
use super::{Door, Uploaded, counted_as, identity, text};
use crate::upload::{NewFile, Upload};

/// The longest value of a field that is no file, in bytes.
const MAX_VALUE_BYTES: usize = 4096;
/// What a form may be larger than its file.
const FORM_BYTES: u64 = 256 * 1024;

/// What may stand in the address as well as in the form.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wishes {
    /// The channel. Told in the address, it is checked before the file comes.
    channel: Option<String>,
    /// Whether those who subscribe later are told too.
    persistent: Option<bool>,
    /// `false`: small files are announced with a link too, instead of within the message.
    inline: Option<bool>,
}

/// The form.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes the form")]
pub(crate) struct Form {
    /// The file.
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
    /// The channel that is told of it; without one, everybody who is connected is.
    channel: Option<String>,
    /// Whether those who subscribe later are told too.
    persistent: Option<bool>,
    /// `false`: small files are announced with a link too, instead of within the message.
    inline: Option<bool>,
}

/// A form that is being received.
struct Receiving {
    door: Door,
    identity: Identity,
    user_id: Option<String>,
    address: Option<String>,
    wishes: Wishes,
    upload: Option<Upload>,
    /// The file as long as it is small enough to travel within a message.
    small: Option<Vec<u8>>,
    /// The field whose value is coming, and what of it has come.
    field: Option<(String, Vec<u8>)>,
    is_in_file: bool,
}

/// Uploads a file and announces it.
#[utoipa::path(
    post,
    path = "/realtime/binary/upload",
    operation_id = "uploadFile",
    params(
        Wishes,
        ("Idempotency-Key" = Option<String>, Header, description = "The same for ten minutes: the first answer again"),
    ),
    request_body(content = Form, content_type = "multipart/form-data"),
    responses(
        (status = 200, description = "It is kept and announced", body = Uploaded),
        BodyRefusals,
        (status = 409, description = "The first request with this key is under way", body = ErrorAnswer),
        (status = 408, description = "The body did not come in time", body = ErrorAnswer),
        (status = 413, description = "Too large, or beyond a quota", body = ErrorAnswer),
        (status = 415, description = "A type that is not allowed or not true", body = ErrorAnswer),
        (status = 503, description = "The storage does not work, or files are switched off", body = ErrorAnswer),
    )
)]
pub(crate) async fn upload(
    State(door): State<Door>,
    Query(wishes): Query<Wishes>,
    request: Request,
) -> Result<Json<Uploaded>, Error> {
    let (parts, body) = request.into_parts();
    let identity = identity(&parts.extensions)?;
    let (user_id, address) = counted_as(&identity, &parts.extensions);
    let caller = user_id.as_deref().or(identity.key_id.as_deref()).or(address.as_deref()).unwrap_or_default();
    let first = match door.repeats.look(caller, &parts.headers, door.files.now())? {
        Seen::Again(answer) => return Ok(Json(*answer)),
        Seen::New(first) => first,
    };
    let content_type = text(&parts.headers, header::CONTENT_TYPE).unwrap_or_default();
    let parser = refuse_encoded(&parts.headers).and_then(|()| {
        Parser::new(content_type).map_err(|message| Error::new(ErrorKind::BadRequest, message))
    });
    let length = text(&parts.headers, header::CONTENT_LENGTH).and_then(|text| text.parse::<u64>().ok());
    let receiving = Receiving {
        door,
        identity,
        user_id,
        address,
        wishes,
        upload: None,
        small: Some(Vec::new()),
        field: None,
        is_in_file: false,
    };
    // A task of its own: what has begun with the disk is ended in order when the client goes away.
    let task = tokio::spawn(async move {
        let most = receiving.door.files.max_file_bytes().saturating_add(FORM_BYTES);
        let mut body = Arriving::new(body, &parts.headers, most);
        let result = match parser.and_then(|parser| receiving.fits(length).map(|()| parser)) {
            Ok(parser) => receiving.receive(parser, &mut body).await,
            Err(error) => Err(error),
        };
        if let Ok(answer) = &result {
            if let Some(first) = first {
                first.answered(answer);
            }
        } else {
            drop(first);
            body.discard().await;
        }
        result
    });
    let stopped = |_| Error::new(ErrorKind::ServerStopping, "the server stops; upload the file again");
    task.await.map_err(stopped)?.map(Json)
}

impl Receiving {
    /// Whether a form of this length can hold a file that is small enough.
    fn fits(&self, length: Option<u64>) -> Result<(), Error> {
        self.door.files.is_enabled()?;
        let length = length.unwrap_or_default();
        self.door.files.check_size(length.saturating_sub(FORM_BYTES))?;
        match self.wishes.channel.as_deref() {
            // The channel may still come with the form; but to whom would somebody send who may send to nobody?
            None if self.identity.allows_somewhere(Action::Upload) => Ok(()),
            channel => self.door.authorise_upload(&self.identity, channel),
        }
    }

    async fn receive(mut self, mut parser: Parser, body: &mut Arriving) -> Result<Uploaded, Error> {
        loop {
            let Some(piece) = parser.next().map_err(bad)? else {
                let data = body.next().await?.ok_or_else(|| bad("the form ends before its last boundary"))?;
                parser.feed(&data);
                continue;
            };
            match piece {
                Piece::Part(part) => self.begin_part(part).await?,
                Piece::Data(data) => self.take(data).await?,
                Piece::PartEnd => self.end_part()?,
                Piece::End => return self.end().await,
            }
        }
    }

    async fn begin_part(&mut self, part: Part) -> Result<(), Error> {
        if part.name != "file" {
            if part.filename.is_some() {
                return Err(bad("the file must be in the field `file`"));
            }
            self.field = Some((part.name, Vec::new()));
            return Ok(());
        }
        if self.upload.is_some() {
            return Err(bad("one file in each form; send others in forms of their own"));
        }
        if let Some(channel) = &self.wishes.channel {
            self.door.authorise_upload(&self.identity, Some(channel))?;
        }
        let new = NewFile {
            user_id: self.user_id.clone(),
            by: self.address.clone(),
            channel: self.wishes.channel.clone(),
            filename: part.filename,
            content_type: part.content_type,
            size: None,
        };
        self.upload = Some(self.door.files.begin(new).await?);
        self.is_in_file = true;
        Ok(())
    }

    async fn take(&mut self, data: Bytes) -> Result<(), Error> {
        match (&mut self.upload, &mut self.field) {
            (Some(upload), _) if self.is_in_file => {
                upload.write(&data).await?;
                let is_small = upload.received() <= self.door.files.inline_bytes() as u64;
                match &mut self.small {
                    Some(small) if is_small => small.extend_from_slice(&data),
                    small => *small = None,
                }
            }
            (_, Some((_, value))) => {
                value.extend_from_slice(&data);
                if value.len() > MAX_VALUE_BYTES {
                    return Err(bad("a field other than `file` may have 4096 bytes"));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn end_part(&mut self) -> Result<(), Error> {
        self.is_in_file = false;
        let Some((name, value)) = self.field.take() else { return Ok(()) };
        let value = String::from_utf8(value).map_err(|_| bad("fields must be UTF-8"))?;
        match name.as_str() {
            "channel" if value.is_empty() => {}
            "channel" => match &self.wishes.channel {
                Some(channel) if *channel != value => return Err(bad("two different channels")),
                _ => self.wishes.channel = Some(value),
            },
            "persistent" => self.wishes.persistent = Some(flag(&name, &value)?),
            "inline" => self.wishes.inline = Some(flag(&name, &value)?),
            // Forms of pages have fields of their own.
            _ => {}
        }
        Ok(())
    }

    async fn end(self) -> Result<Uploaded, Error> {
        let mut upload = self.upload.ok_or_else(|| bad("there is no field `file`"))?;
        let channel = self.wishes.channel.as_deref();
        self.door.authorise_upload(&self.identity, channel)?;
        if let Some(channel) = channel.filter(|_| upload.new_file().channel.is_none()) {
            upload.set_channel(channel).await?;
        }
        let file = upload.finish().await?;
        let inline = self.small.filter(|_| self.wishes.inline != Some(false)).map(Bytes::from);
        let persistent = self.wishes.persistent.unwrap_or_default();
        self.door.announce(self.identity, file, persistent, inline).await
    }
}

/// Yes or no, as forms write it.
pub(super) fn flag(name: &str, value: &str) -> Result<bool, Error> {
    match value.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "on" | "yes" => Ok(true),
        "" | "false" | "0" | "off" | "no" => Ok(false),
        _ => Err(bad(&format!("{name}: `true` or `false`"))),
    }
}

fn bad(message: &str) -> Error {
    Error::new(ErrorKind::BadRequest, message)
}
