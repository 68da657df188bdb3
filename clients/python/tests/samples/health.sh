# Проверка WebSocket
curl http://localhost:8000/realtime/health

# Проверка WebRTC
curl http://localhost:8000/realtime/webrtc/health

# Проверка общего состояния
curl http://localhost:8000/health
