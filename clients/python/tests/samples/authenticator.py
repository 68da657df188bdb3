# JWT токен
from veche.auth import WSAuthenticator

authenticator = WSAuthenticator()

# Проверка токена
auth_data = await authenticator.verify_jwt_token(token)
if auth_data:
    user_id = auth_data["user_id"]

# API ключ
auth_data = await authenticator.verify_api_key(api_key)
