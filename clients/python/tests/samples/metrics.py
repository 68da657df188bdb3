# Получение статистики
response = await client.get("/realtime/connections")
print(f"Активных соединений: {response['total']}")

# WebRTC статистика
response = await client.get("/realtime/webrtc/connections")
print(f"WebRTC соединений: {response['total']}")

# Статистика по каналам
stats = connection_manager.get_stats()
print(f"Каналов: {len(stats['channels'])}")
