//! What goes over the doors, whatever its form: requests of clients, answers of the server, and messages of channels.
//! PROTOCOL.md describes it for clients.

pub mod answer;
pub mod json;
pub mod message;
pub(crate) mod protobuf;
pub mod request;

pub use answer::ServerMessage;
pub use request::{Action, ClientMessage, Content, Id, Publish, Recipient, Request};

#[cfg(test)]
mod tests {
    use super::json::CLIENT_TYPES;

    const DOCUMENT: &str = include_str!("../PROTOCOL.md");

    fn is_documented(kind: &str) -> bool {
        DOCUMENT.lines().any(|line| line.starts_with("| `") && line.contains(&format!("`{kind}`")))
    }

    #[test]
    fn every_type_of_message_is_documented() {
        for kind in CLIENT_TYPES {
            assert!(is_documented(kind), "PROTOCOL.md lacks the request {kind}");
        }
        let source = include_str!("protocol/answer.rs");
        let answers = source.split("pub enum ServerMessage {").nth(1).unwrap().split("\n}\n").next().unwrap();
        let mut count = 0;
        for line in answers.lines() {
            let name = line.strip_prefix("    ").filter(|name| name.starts_with(char::is_uppercase));
            let Some(name) = name.and_then(|name| name.split(['(', ' ']).next()) else { continue };
            assert!(is_documented(&name.to_lowercase()), "PROTOCOL.md lacks the answer {name}");
            count += 1;
        }
        assert_eq!(count, 12);
        let source = include_str!("protocol/message.rs");
        let kinds = source.split("pub(crate) fn kind(").nth(1).unwrap().split("\n}\n").next().unwrap();
        for kind in kinds.split('"').skip(1).step_by(2).filter(|kind| *kind != "verbatim") {
            assert!(is_documented(kind), "PROTOCOL.md lacks the message {kind}");
        }
    }
}
