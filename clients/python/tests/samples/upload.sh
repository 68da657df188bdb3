# Загрузка файла
curl -X POST "http://localhost:8000/realtime/binary/upload" \
  -H "Authorization: Bearer your_token" \
  -F "file=@image.png" \
  -F "channel=general"

# Отправка текста как бинарные данные
curl -X POST "http://localhost:8000/realtime/binary/text" \
  -H "Content-Type: application/json" \
  -H "Authorization: Bearer your_token" \
  -d '{
    "text": "Это сообщение будет отправлено как бинарные данные",
    "channel": "general"
  }'
