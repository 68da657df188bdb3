# Подписка на канал с бинарными данными
await client.subscribe_to_channel("file_sharing", {
    "binary_data": True,
    "max_file_size": 10 * 1024 * 1024,  # 10MB
    "allowed_types": ["image/*", "video/*", "application/pdf"]
})

# Подписка на уведомления пользователя
await client.subscribe_to_channel(f"user_{user_id}", {
    "notification_types": ["message", "call", "file"]
})
