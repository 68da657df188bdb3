import logging

# Настройка логирования
logging.getLogger("realtime").setLevel(logging.DEBUG)
logging.getLogger("realtime.websocket").setLevel(logging.INFO)
logging.getLogger("realtime.webrtc").setLevel(logging.DEBUG)

# Структурированное логирование
logger.info("Binary data sent", extra={
    "file_size": len(data),
    "content_type": content_type,
    "user_id": user_id,
    "channel": channel
})
