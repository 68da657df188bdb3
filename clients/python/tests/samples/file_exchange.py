# Отправка файла в чат
async def send_file_to_chat(file_path: str, chat_id: str):
    with open(file_path, "rb") as f:
        file_data = f.read()

    binary_message = BinaryMessage.from_bytes(
        data=file_data,
        content_type="application/octet-stream",
        filename=file_path.split("/")[-1]
    )

    await connection_manager.send_to_channel(
        channel=f"chat_{chat_id}",
        message=binary_message.dict()
    )

# Получение файла
async def handle_file_message(message):
    if message.get("type") == "binary":
        filename = message.get("filename", "download")
        binary_data = base64.b64decode(message["binary_data"])

        # Сохранение файла
        with open(f"downloads/{filename}", "wb") as f:
            f.write(binary_data)

        print(f"Файл {filename} сохранен")
