from veche.models import BinaryMessage

# Валидация бинарных данных
try:
    message = BinaryMessage(
        binary_data="invalid_base64",
        content_type="image/png"
    )
except ValueError as e:
    print(f"Ошибка валидации: {e}")

# Проверка размера файла
if len(file_data) > settings.BINARY_MAX_FILE_SIZE:
    raise ValueError("Файл слишком большой")

# Проверка типа файла
allowed_types = settings.BINARY_ALLOWED_TYPES.split(',')
if not any(content_type.startswith(t.strip()) for t in allowed_types):
    raise ValueError("Тип файла не разрешен")
