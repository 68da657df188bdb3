import asyncio
from veche.routes import webrtc_rooms

# Создание комнаты через API
response = await client.post("/realtime/webrtc/rooms", json={
    "room_id": "meeting_123",
    "name": "Встреча команды",
    "max_participants": 10
})
