"""gRPC and Protobuf as other programs meet them: with nothing but what the server says of itself by reflection."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
import websockets
from conftest import SECRET
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from support import Server

SERVICE = "veche.v1.Messaging"


class Messaging:
    """The service, its messages and methods found out by reflection."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
        database = ProtoReflectionDescriptorDatabase(channel)
        self.services = set(database.get_services())
        self._pool = DescriptorPool(database)
        self._service = self._pool.FindServiceByName(SERVICE)

    def message(self, name: str, /, **fields: Any) -> Any:
        return GetMessageClass(self._pool.FindMessageTypeByName(f"veche.v1.{name}"))(**fields)

    def call(self, name: str, request: Any, /, **options: Any) -> Any:
        """Calls a method, whatever kind it is."""
        method = self._service.FindMethodByName(name)
        asked = "stream" if method.client_streaming else "unary"
        answered = "stream" if method.server_streaming else "unary"
        call = getattr(self._channel, f"{asked}_{answered}")(
            f"/{SERVICE}/{name}",
            request_serializer=GetMessageClass(method.input_type).SerializeToString,
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )
        return call(request, timeout=20, **options)


@pytest.fixture
def channel(server: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{server.port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
        yield channel


@pytest.fixture
def messaging(channel: grpc.Channel) -> Messaging:
    return Messaging(channel)


def test_the_server_describes_itself_and_is_well(messaging: Messaging, channel: grpc.Channel) -> None:
    assert {SERVICE, "grpc.health.v1.Health"} <= messaging.services
    health = health_pb2_grpc.HealthStub(channel)
    for service in ("", SERVICE):
        answer = health.Check(health_pb2.HealthCheckRequest(service=service))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_a_stream_gets_what_a_call_sends(messaging: Messaging) -> None:
    wish = messaging.message("Subscribe", channel="grpc:stream", presence=True)
    stream = messaging.call("Subscribe", messaging.message("SubscribeRequest", channels=[wish], name="Анна"))
    welcome = next(stream).welcome
    assert welcome.name == "Анна"
    subscribed = next(stream).subscribed
    assert (subscribed.channel, subscribed.offset) == ("grpc:stream", 0)
    sent = messaging.call("Send", messaging.message("Send", channel="grpc:stream", data=json.dumps({"text": "привет"})))
    assert sent.recipients == 1
    delivery = next(part.delivery for part in stream if part.HasField("delivery"))
    assert json.loads(delivery.data) == {"text": "привет"}
    assert (delivery.message_id, delivery.offset, delivery.epoch) == (sent.message_id, sent.offset, sent.epoch)
    stream.cancel()

    history = messaging.call("History", messaging.message("HistoryRequest", channel="grpc:stream"))
    assert [message.message_id for message in history.messages] == [sent.message_id]


def test_a_whole_session_over_one_stream(messaging: Messaging) -> None:
    def say() -> Iterator[Any]:
        yield messaging.message("ClientMessage", id="1", subscribe={"channel": "grpc:session"})
        file = {"channel": "grpc:session", "binary_data": b"%PDF-1.4\n", "filename": "a.pdf"}
        yield messaging.message("ClientMessage", id="2", binary=file)
        yield messaging.message("ClientMessage", id="3", send={"channel": "not a channel", "data": "1"})

    heard = {}
    session = messaging.call("Connect", say(), metadata=[("name", "Boris")])
    for answer in session:
        kind = answer.WhichOneof("message")
        heard[kind] = answer
        if {"welcome", "subscribed", "published", "delivery", "error"} <= heard.keys():
            session.cancel()
            break
    assert heard["welcome"].welcome.name == "Boris"
    assert (heard["subscribed"].id, heard["published"].id) == ("1", "2")
    assert heard["delivery"].delivery.binary.data == b"%PDF-1.4\n"
    assert heard["delivery"].delivery.sender.name == "Boris"
    assert (heard["error"].id, heard["error"].error.code) == ("3", "bad_channel")


def test_errors_are_statuses_with_the_code_as_metadata(messaging: Messaging) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        messaging.call("Send", messaging.message("Send", channel="not a channel", data="1"))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert ("veche-error-code", "bad_channel") in caught.value.trailing_metadata()


def test_credentials_are_metadata(closed_server: Server) -> None:
    import jwt

    options = [("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(f"127.0.0.1:{closed_server.port}", options=options) as channel:
        messaging = Messaging(channel)
        message = messaging.message("Send", channel="grpc:closed", data="1")
        with pytest.raises(grpc.RpcError) as caught:
            messaging.call("Send", message, metadata=[("authorization", "Bearer nonsense")])
        assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
        token = jwt.encode({"sub": "42", "exp": 4102444800}, SECRET, algorithm="HS256")
        sent = messaging.call("Send", message, metadata=[("authorization", f"Bearer {token}")])
        assert sent.channel == "grpc:closed"


async def test_a_websocket_speaks_the_same_messages(server: Server, messaging: Messaging) -> None:
    protocol = websockets.Subprotocol("veche.protobuf.v1")
    async with websockets.connect(server.ws, subprotocols=[protocol]) as socket:
        assert socket.subprotocol == protocol

        async def hear() -> Any:
            frame = await socket.recv()
            assert isinstance(frame, bytes)
            answer = messaging.message("ServerMessage")
            answer.ParseFromString(frame)
            return answer

        assert (await hear()).HasField("welcome")
        wish = messaging.message("ClientMessage", id="1", subscribe={"channel": "grpc:websocket"})
        await socket.send(wish.SerializeToString())
        assert (await hear()).subscribed.channel == "grpc:websocket"
        sent = messaging.call("Send", messaging.message("Send", channel="grpc:websocket", data="[1]"))
        delivery = (await hear()).delivery
        assert (delivery.message_id, delivery.data) == (sent.message_id, "[1]")
