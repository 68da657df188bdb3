//! The streams: `Subscribe`, which only listens, and `Connect`, the whole session.
//!
//! One task does both directions: it takes the client's next message only while the client reads, and less than half of
//! what may wait waits.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::{BufMut, Bytes};
use futures_util::stream::{self, Stream};
use prost::Message;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::sleep;
use tonic::codec::{Codec, EncodeBuf, Encoder};
use tonic::metadata::MetadataMap;
use tonic::server::Grpc;
use tonic::{Status, Streaming};
use tonic_prost::ProstDecoder;
use tower::service_fn;
use veche_access::{Action, Identity, Resource};
use veche_doors::rate::{TokenBucket, Verdict};
use veche_doors::{Error, ErrorKind};
use veche_hub::{Connection, Disconnect, Door, Item, Outbox};

use super::Caller;
use super::status::{refused, status};
use crate::http::Api;
use crate::protocol::answer::refusal;
use crate::protocol::message::{Encoding, encode_item};
use crate::protocol::protobuf;
use crate::session::{Session, Standing, Turn};
use crate::websocket::{kind_of, told_before, too_many};
use crate::{check, proto};

/// About how many bytes are taken out of the outbox at once.
const PIECE_BYTES: usize = 64 * 1024;

/// What a message of bytes may have beside them.
const AROUND_BINARY: usize = 4096;

pub(super) async fn subscribe(State(api): State<Api>, request: Request) -> Response {
    let limit = api.shared.settings.max_message_bytes;
    let caller = match Caller::find(api, request.headers()).await {
        Ok(caller) => caller,
        Err(error) => return refused(error),
    };
    let service = service_fn(|request: tonic::Request<proto::SubscribeRequest>| {
        let live = Live::subscribe(caller.clone(), request.into_inner());
        async move { live.map(answer).map_err(status) }
    });
    let mut grpc = Grpc::new(AsEncoded::default()).max_decoding_message_size(limit);
    grpc.server_streaming(service, request).await.map(Body::new)
}

pub(super) async fn connect(State(api): State<Api>, request: Request) -> Response {
    let limit = api.shared.settings.websocket_binary_max_bytes + AROUND_BINARY;
    let caller = match Caller::find(api, request.headers()).await {
        Ok(caller) => caller,
        Err(error) => return refused(error),
    };
    let service = service_fn(|request: tonic::Request<Streaming<proto::ClientMessage>>| {
        let name = name(request.metadata());
        let live = Live::start(caller.clone(), name, Some(request.into_inner()));
        async move { live.map(answer).map_err(status) }
    });
    let mut grpc = Grpc::new(AsEncoded::default()).max_decoding_message_size(limit);
    grpc.streaming(service, request).await.map(Body::new)
}

/// The client's name for people: `name`, or `name-bin` where it is not ASCII.
fn name(metadata: &MetadataMap) -> Option<String> {
    let ascii = metadata.get("name").and_then(|name| name.to_str().ok()).map(ToOwned::to_owned);
    let bytes = || metadata.get_bin("name-bin")?.to_bytes().ok();
    ascii.or_else(|| String::from_utf8(bytes()?.to_vec()).ok())
}

fn answer(live: Live) -> tonic::Response<impl Stream<Item = Result<Bytes, Status>> + Send + 'static> {
    tonic::Response::new(stream::unfold(Some(Box::new(live)), |live| async {
        let mut live = live?;
        match live.next().await {
            Ok(message) => message.map(|message| (Ok(message), Some(live))),
            // The connection leaves its channels here, not only when the status is written.
            Err(status) => Some((Err(status), None)),
        }
    }))
}

/// A client's stream.
struct Live {
    session: Session,
    outbox: Outbox,
    /// What the client still says; `None`: nothing any more.
    inbound: Option<Streaming<proto::ClientMessage>>,
    name: Option<String>,
    /// What is to be written next.
    waiting: VecDeque<Item>,
    /// What the stream ends with, after what waits.
    end: Option<Error>,
    bucket: TokenBucket,
    _permit: OwnedSemaphorePermit,
}

impl Live {
    fn start(
        caller: Caller,
        name: Option<String>,
        inbound: Option<Streaming<proto::ClientMessage>>,
    ) -> Result<Self, Error> {
        let Caller { shared, identity } = caller;
        let permit = shared.calls.clone().try_acquire_owned().map_err(|_| {
            shared.counters.refused_connections.add(1);
            let message = "the server has as many streams of gRPC as it may have; try again later";
            Error::new(ErrorKind::TooManyConnections, message)
        })?;
        let bucket = shared.doorkeeper.messages(Instant::now());
        let (session, outbox) = begin(&shared, identity, name.as_deref())?;
        Ok(Self {
            session,
            outbox,
            inbound,
            name,
            waiting: VecDeque::new(),
            end: None,
            bucket,
            _permit: permit,
        })
    }

    fn subscribe(caller: Caller, wish: proto::SubscribeRequest) -> Result<Self, Error> {
        let wishes = wish.channels.into_iter().map(protobuf::subscribe).collect::<Result<Vec<_>, _>>()?;
        for wish in &wishes {
            check(&caller.identity, Action::Subscribe, Resource::Channel(wish.channel.as_str()))?;
        }
        let shared = caller.shared.clone();
        let name = (!wish.name.is_empty()).then_some(wish.name);
        let live = Self::start(caller, name, None)?;
        for wish in wishes {
            live.session
                .connection
                .subscribe(wish, None, shared.now())
                .map_err(|error| refusal(error.code(), error.to_string()))?;
        }
        Ok(live)
    }

    /// The next message; `None`: there will be none.
    async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            while let Some(item) = self.waiting.pop_front() {
                if let Item::Disconnect(why) = &item {
                    self.end = Some(ended(why));
                }
                let Some(encoded) = encode_item(item, Encoding::Protobuf) else { continue };
                let bytes = encoded.into_bytes();
                let counters = &self.session.shared.counters;
                counters.messages_out.add(1);
                counters.bytes_out.add(bytes.len() as u64);
                return Ok(Some(bytes));
            }
            if let Some(error) = self.end.take() {
                return Err(status(error));
            }
            if !self.wait().await? {
                return Ok(None);
            }
        }
    }

    /// Waits until something happens; `false`: nothing will.
    async fn wait(&mut self) -> Result<bool, Status> {
        match self.session.standing().await {
            Standing::Good => {}
            Standing::Expired => self.session.expire(),
            Standing::Revoked => {
                self.finish(Error::new(ErrorKind::InvalidApiKey, "the API key was revoked"));
                return Ok(true);
            }
        }
        let mut items = Vec::new();
        tokio::select! {
            more = self.outbox.drain(&mut items, PIECE_BYTES) => {
                self.waiting.extend(items);
                return Ok(more);
            }
            message = next_message(&mut self.inbound, &self.session.connection) => match message? {
                Some(message) => self.take(message).await,
                // The client has said all it wants to say, and goes on listening.
                None => self.inbound = None,
            },
            () = sleep(self.session.until_standing()) => {}
        }
        Ok(true)
    }

    /// Takes a message of the client.
    async fn take(&mut self, message: proto::ClientMessage) {
        let shared = self.session.shared.clone();
        shared.counters.messages_in.add(1);
        shared.counters.bytes_in.add(message.encoded_len() as u64);
        let (per_second, burst) = shared.doorkeeper.message_rate();
        self.bucket.set_rate(per_second, burst);
        let error = || too_many(per_second);
        match self.bucket.handle_message(Instant::now()) {
            Verdict::Take => {}
            Verdict::Drop { tell } => {
                shared.counters.rate_limited.add(1);
                if tell {
                    self.session.refuse(error(), None);
                }
                return;
            }
            Verdict::Close => return self.finish(error()),
        }
        if let Turn::Identify(identity) = self.session.handle_message(message).await {
            match begin(&shared, identity, self.name.as_deref()) {
                Ok((session, outbox)) => {
                    // What the client asked before still has its answers.
                    self.take_rest();
                    (self.session, self.outbox) = (session, outbox);
                }
                Err(error) => self.finish(error),
            }
        }
    }

    /// Ends the stream with an error, after what waits.
    fn finish(&mut self, error: Error) {
        self.take_rest();
        self.end = Some(error);
    }

    fn take_rest(&mut self) {
        while let Some(item) = self.outbox.try_next() {
            self.waiting.push_back(item);
        }
    }
}

/// Begins a session, whose first words are `welcome`.
fn begin(
    shared: &std::sync::Arc<crate::Shared>,
    identity: Identity,
    name: Option<&str>,
) -> Result<(Session, Outbox), Error> {
    let (mut session, outbox) = Session::start(shared.clone(), Door::Grpc, identity, name)?;
    session.speak(Encoding::Protobuf);
    session.welcome();
    Ok((session, outbox))
}

/// The client's next message, once it has read what was said before; never, where it says nothing more.
async fn next_message(
    inbound: &mut Option<Streaming<proto::ClientMessage>>,
    connection: &Connection,
) -> Result<Option<proto::ClientMessage>, Status> {
    let Some(inbound) = inbound else { return std::future::pending().await };
    connection.room().await;
    inbound.message().await
}

/// What a stream ends with when the hub ends the connection.
fn ended(why: &Disconnect) -> Error {
    told_before(why).unwrap_or_else(|| match why {
        Disconnect::Removed(reason) => Error::new(kind_of(why), reason.to_string()),
        why => Error::new(kind_of(why), "the server is stopping: connect again in a moment"),
    })
}

/// Reads messages with prost, and writes what is encoded already.
struct AsEncoded<Q>(PhantomData<fn() -> Q>);

impl<Q> Default for AsEncoded<Q> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<Q: Message + Default + 'static> Codec for AsEncoded<Q> {
    type Encode = Bytes;
    type Decode = Q;
    type Encoder = AsIs;
    type Decoder = ProstDecoder<Q>;

    fn encoder(&mut self) -> AsIs {
        AsIs
    }

    fn decoder(&mut self) -> ProstDecoder<Q> {
        ProstDecoder::default()
    }
}

struct AsIs;

impl Encoder for AsIs {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.reserve(message.len());
        to.put_slice(&message);
        Ok(())
    }
}
