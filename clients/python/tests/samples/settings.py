from veche.config import get_settings

settings = get_settings()

# Проверка возможностей
if settings.WEBSOCKET_ENABLED:
    print("WebSocket включен")

if settings.WEBRTC_ENABLED:
    print("WebRTC включен")

if settings.BINARY_DATA_ENABLED:
    print(f"Максимальный размер файла: {settings.BINARY_MAX_FILE_SIZE / 1024 / 1024}MB")
