async def handle_binary_message(message):
    """Обработчик бинарных сообщений."""
    if message.get("type") == "binary":
        # Декодируем бинарные данные
        binary_data = base64.b64decode(message["binary_data"])

        # Сохраняем файл
        filename = message.get("filename", "received_file")
        with open(f"downloads/{filename}", "wb") as f:
            f.write(binary_data)

        print(f"Получен файл: {filename}, размер: {len(binary_data)} байт")

client.on_message(handle_binary_message)
