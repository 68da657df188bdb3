from veche.clients import SSEClient, create_sse_client

# SSE клиент
client = create_sse_client(
    url="http://localhost:8000/realtime/events",
    channel="notifications"
)

async with client:
    async for event in client.events():
        if event.event == "notification":
            print(f"Уведомление: {event.data}")
        elif event.event == "binary_data":
            # Обработка бинарных данных
            handle_binary_event(event.data)
