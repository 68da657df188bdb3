# Потоковое вещание камеры
import cv2
import asyncio

async def stream_camera():
    cap = cv2.VideoCapture(0)

    while True:
        ret, frame = cap.read()
        if not ret:
            break

        # Кодирование кадра в JPEG
        _, buffer = cv2.imencode('.jpg', frame)
        frame_data = buffer.tobytes()

        # Отправка кадра как бинарные данные
        binary_message = BinaryMessage.from_bytes(
            data=frame_data,
            content_type="image/jpeg"
        )

        await connection_manager.broadcast_message(binary_message.dict())
        await asyncio.sleep(1/30)  # 30 FPS

    cap.release()
