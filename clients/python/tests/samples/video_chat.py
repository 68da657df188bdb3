# Создание видеочата
from veche import WebRTCRoom

# Создание комнаты
room = WebRTCRoom(
    room_id="video_call_123",
    name="Видеозвонок",
    max_participants=4
)
