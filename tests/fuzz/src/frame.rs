//! Binary frames of messaging: what a client publishes. Whatever is read as a frame is the same when it is written and
//! read again.

use veche_messaging::frame::{PUBLISH, Publish, Target, parse_publish};

pub(crate) fn run(input: &[u8]) {
    let frame = input.to_vec().into();
    match parse_publish(&frame) {
        Ok(publish) => {
            let again = parse_publish(&write(&publish).into()).expect("what was written can be read");
            assert_eq!(again, publish, "and is the same");
            assert!(publish.payload.len() < input.len());
        }
        Err(error) => assert!(!error.to_string().is_empty(), "an error says what is wrong"),
    }
}

fn write(publish: &Publish) -> Vec<u8> {
    let (target_flag, target) = match &publish.target {
        Target::Everybody => (0, ""),
        Target::Channel(name) => (0, name.as_str()),
        Target::User(user_id) => (0x04, user_id.as_str()),
        Target::Connection(id) => (0x08, id.as_str()),
    };
    let flags = u8::from(publish.id.is_some()) | u8::from(publish.persistent) << 1 | target_flag;
    let mut frame = vec![PUBLISH, flags];
    frame.extend(publish.id.iter().flat_map(|id| id.to_be_bytes()));
    for text in [target, &publish.content_type, &publish.filename, &publish.idempotency_key] {
        frame.push(u8::try_from(text.len()).expect("a text has at most 255 bytes"));
        frame.extend(text.as_bytes());
    }
    frame.extend(&publish.payload);
    frame
}
