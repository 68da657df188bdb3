//! The methods that are answered once.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use prost::Message;
use tonic::server::Grpc;
use tonic_prost::ProstCodec;
use tower::service_fn;
use veche_access::{Action, Resource};
use veche_doors::Error;
use veche_hub::ChannelName;

use super::Caller;
use super::status::{refused, status};
use crate::check;
use crate::http::Api;
use crate::http::connections::{self, ConnectionEntry};
use crate::proto;
use crate::protocol::answer::{HistoryAnswer, PublishedAnswer, present};
use crate::protocol::{Publish, protobuf, request};
use crate::sending::sender;
use crate::session::{MAX_HISTORY, USUAL_HISTORY};

/// What a message of bytes may have beside them.
const AROUND_BINARY: usize = 4096;

pub(super) async fn send(State(api): State<Api>, request: Request) -> Response {
    let limit = api.shared.settings.max_message_bytes;
    unary(api, request, limit, |caller, message: proto::Send| async move {
        let publish = protobuf::send(message, &caller.shared.settings)?;
        caller.publish(publish).await
    })
    .await
}

pub(super) async fn broadcast(State(api): State<Api>, request: Request) -> Response {
    let limit = api.shared.settings.max_message_bytes;
    unary(api, request, limit, |caller, message: proto::Broadcast| async move {
        let publish = protobuf::broadcast(message, &caller.shared.settings)?;
        caller.publish(publish).await
    })
    .await
}

pub(super) async fn send_binary(State(api): State<Api>, request: Request) -> Response {
    let limit = api.shared.settings.websocket_binary_max_bytes + AROUND_BINARY;
    unary(api, request, limit, |caller, message: proto::Binary| async move {
        caller.publish(protobuf::binary(message)?).await
    })
    .await
}

pub(super) async fn notify(State(api): State<Api>, request: Request) -> Response {
    let limit = api.shared.settings.max_message_bytes;
    unary(api, request, limit, |caller, message: proto::Notify| async move {
        let publish = protobuf::notify(message, &caller.shared.settings)?;
        caller.publish(publish).await
    })
    .await
}

/// A caller without a connection cannot be answered, so the peer gets an empty `from_peer_id`.
pub(super) async fn signal(State(api): State<Api>, request: Request) -> Response {
    let limit = api.shared.settings.max_message_bytes;
    unary(api, request, limit, |caller, message: proto::Signal| async move {
        let Caller { shared, identity } = caller;
        let signal = protobuf::signal(message, &shared.settings)?;
        if let Some(room_id) = &signal.room_id {
            check(&identity, Action::Send, Resource::Room(room_id))?;
        }
        let outcome = shared.signal(&identity, sender(&identity), "", signal).await?;
        let answer = outcome
            .map_or_else(|| PublishedAnswer::relayed(None), |outcome| PublishedAnswer::new(None, &outcome));
        Ok(proto::Published::from(&answer))
    })
    .await
}

pub(super) async fn history(State(api): State<Api>, request: Request) -> Response {
    let limit = api.shared.settings.max_message_bytes;
    unary(api, request, limit, |caller, wish: proto::HistoryRequest| async move {
        let channel = caller.readable(&wish.channel)?;
        let query = protobuf::history(&wish, USUAL_HISTORY, MAX_HISTORY)?;
        let history = caller.shared.hub.history(&channel, query, caller.shared.now());
        Ok(proto::History::from(&HistoryAnswer::new(None, channel, history)))
    })
    .await
}

pub(super) async fn presence(State(api): State<Api>, request: Request) -> Response {
    let limit = api.shared.settings.max_message_bytes;
    unary(api, request, limit, |caller, wish: proto::PresenceRequest| async move {
        let channel = caller.readable(&wish.channel)?;
        let list = caller.shared.hub.presence(&channel);
        let presence = present(&list.entries).iter().map(Into::into).collect();
        Ok(proto::Presence { channel: channel.to_string(), presence, total: list.total as u64 })
    })
    .await
}

pub(super) async fn list_connections(State(api): State<Api>, request: Request) -> Response {
    let limit = api.shared.settings.max_message_bytes;
    unary(api, request, limit, |caller, _: proto::ListConnectionsRequest| async move {
        let found = connections::find(&caller.shared, &caller.identity);
        Ok(proto::Connections {
            total: found.total as u64,
            websocket: found.websocket as u64,
            sse: found.sse as u64,
            grpc: found.grpc as u64,
            connections: found.connections.into_iter().map(connection).collect(),
            channels: found.channels.into_iter().map(|(name, count)| (name, count as u64)).collect(),
        })
    })
    .await
}

fn connection(entry: ConnectionEntry) -> proto::Connection {
    proto::Connection {
        connection_id: entry.connection_id,
        user_id: entry.user_id,
        name: entry.name,
        door: entry.door.to_owned(),
        since: entry.since,
        channels: entry.channels as u64,
        waiting_bytes: entry.waiting_bytes as u64,
    }
}

impl Caller {
    async fn publish(&self, publish: Publish) -> Result<proto::Published, Error> {
        let outcome = self.shared.dispatch(&self.identity, publish).await?;
        Ok((&PublishedAnswer::new(None, &outcome)).into())
    }

    fn readable(&self, channel: &str) -> Result<ChannelName, Error> {
        let channel = request::channel(channel)?;
        check(&self.identity, Action::Subscribe, Resource::Channel(channel.as_str()))?;
        Ok(channel)
    }
}

/// Answers a call whose message has at most `limit` bytes, by what `act` says.
async fn unary<Q, A, Answer>(
    api: Api,
    request: Request,
    limit: usize,
    act: impl Fn(Caller, Q) -> Answer + Send + Sync,
) -> Response
where
    Q: Message + Default + 'static,
    A: Message + 'static,
    Answer: Future<Output = Result<A, Error>> + Send,
{
    let caller = match Caller::find(api, request.headers()).await {
        Ok(caller) => caller,
        Err(error) => return refused(error),
    };
    let counters = caller.shared.clone();
    let service = service_fn(|request: tonic::Request<Q>| {
        let message = request.into_inner();
        counters.counters.messages_in.add(1);
        counters.counters.bytes_in.add(message.encoded_len() as u64);
        let answer = act(caller.clone(), message);
        async move { answer.await.map(tonic::Response::new).map_err(status) }
    });
    let mut grpc = Grpc::new(ProstCodec::<A, Q>::default()).max_decoding_message_size(limit);
    grpc.unary(service, request).await.map(Body::new)
}
