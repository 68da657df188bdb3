# Отправка сообщения, которое получат новые подписчики
channel_message = ChannelMessage(
    channel="announcements",
    data="Важное объявление для всех пользователей",
    persistent=True  # Сохранить для новых подписчиков
)

await client.send_channel_message(channel_message)
