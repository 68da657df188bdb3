import base64
from veche import WSClient, BinaryMessage

# Создание клиента
client = WSClient("ws://localhost:8000/realtime/ws")

async with client:
    # Отправка файла
    with open("image.png", "rb") as f:
        file_data = f.read()

    binary_message = BinaryMessage.from_bytes(
        data=file_data,
        content_type="image/png",
        filename="image.png"
    )

    await client.send_binary(binary_message)
