//! The seed's echo server and its chat with rooms.

use serde_json::json;

use crate::server::Server;

#[tokio::test]
async fn what_is_unknown_comes_back() {
    let server = Server::start().await;
    let (mut client, _) = server.join("").await;
    for message in [
        json!({ "type": "greeting", "message": "Привет, сервер!" }),
        json!([1, 2]),
        json!({ "a": { "b": 1 } }),
    ] {
        client.send(message.clone()).await;
        let echo = client.expect("echo").await;
        assert_eq!(echo["original"], message);
        assert!(echo["timestamp"].is_string());
    }
    client.send_text("Привет!").await;
    assert_eq!(client.expect("echo").await["message"], "Привет!");
}

#[tokio::test]
async fn a_line_of_chat_reaches_everybody() {
    let server = Server::start().await;
    let (mut anna, _) = server.join("").await;
    let (mut boris, _) = server.join("").await;
    boris.send(json!({ "type": "chat", "user": "Борис", "message": "всем" })).await;
    for client in [&mut anna, &mut boris] {
        let chat = client.expect("chat").await;
        assert_eq!((&chat["user"], &chat["message"]), (&json!("Борис"), &json!("всем")));
        assert!(chat["timestamp"].is_string());
    }
    boris.send(json!({ "type": "chat" })).await;
    let chat = anna.expect("chat").await;
    assert_eq!((&chat["user"], &chat["message"]), (&json!("Аноним"), &json!("")));
}

#[tokio::test]
async fn the_chat_with_rooms_says_what_the_contract_says() {
    let server = Server::start().await;
    let (mut anna, _) = server.join("").await;
    anna.send(json!({ "action": "set_username", "username": "Анна" })).await;
    assert_eq!(anna.receive().await, json!({ "type": "system", "message": "Имя установлено: Анна" }));
    anna.send(json!({ "action": "message", "text": "есть кто?" })).await;
    assert_eq!(anna.expect("error").await["message"], "Вы не находитесь в комнате");
    anna.send(json!({ "action": "join", "room": "general" })).await;
    let joined = anna.expect("system").await;
    assert_eq!(
        (&joined["message"], &joined["room"]),
        (&json!("Анна присоединился к комнате"), &json!("general"))
    );
    let (mut boris, _) = server.join("").await;
    boris.send(json!({ "action": "join" })).await;
    for client in [&mut anna, &mut boris] {
        assert_eq!(client.expect("system").await["message"], "Аноним присоединился к комнате");
    }
    boris.send(json!({ "action": "message", "text": "Привет" })).await;
    for client in [&mut anna, &mut boris] {
        let chat = client.expect("chat").await;
        assert_eq!(
            (&chat["user"], &chat["message"], &chat["room"]),
            (&json!("Аноним"), &json!("Привет"), &json!("general"))
        );
    }
    boris.send(json!({ "action": "join", "room": "other" })).await;
    assert_eq!(anna.expect("system").await["message"], "Аноним покинул комнату");
    assert_eq!(boris.expect("system").await["room"], "other");
    boris.send(json!({ "action": "join", "room": "general" })).await;
    assert_eq!(anna.expect("system").await["room"], "general");
    drop(boris);
    assert_eq!(anna.expect("system").await["message"], "Аноним покинул комнату");
    anna.send_text("{").await;
    let error = anna.expect("error").await;
    assert_eq!(
        (&error["message"], &error["error"]["code"]),
        (&json!("Неверный формат JSON"), &json!("bad_json"))
    );
    anna.send(json!({ "action": "leave" })).await;
    anna.send(json!({ "action": "message", "text": "?" })).await;
    assert_eq!(anna.error().await, "bad_request");
    anna.send(json!({ "action": "join", "room": "a b" })).await;
    assert_eq!(anna.error().await, "bad_channel");
}
