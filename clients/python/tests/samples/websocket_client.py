from veche.clients import WSClient, create_authenticated_client

# Простой клиент
client = WSClient("ws://localhost:8000/realtime/ws")

# Аутентифицированный клиент
auth_client = create_authenticated_client(
    url="ws://localhost:8000/realtime/ws",
    token="your_jwt_token"
)

async with auth_client as client:
    # Отправка текста
    await client.send_text("Привет!")

    # Отправка в канал
    await client.send_to_channel("general", "Сообщение в канал")

    # Отправка бинарных данных
    with open("file.pdf", "rb") as f:
        await client.send_binary(f.read(), content_type="application/pdf")

    # WebRTC сигналинг
    await client.send_webrtc_signal(
        signal_type="offer",
        target_peer_id="peer_123",
        sdp="v=0\r\no=- 123456 ..."
    )
