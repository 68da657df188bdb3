//! API keys.

use veche_storage::{ApiKey, Database};

use crate::rig::Rig;

pub(crate) async fn are_found_by_hash_and_revoked_once(rig: Rig) {
    let database = rig.open().await;
    let key = ApiKey {
        id: "key_1".into(),
        hash: "ab".repeat(32),
        name: "Панель".into(),
        user_id: None,
        grants: r#"[{"action":"send"}]"#.into(),
        created: 1_000,
        expires: Some(9_000),
        revoked: None,
        last_used: None,
    };
    let newer = ApiKey {
        id: "key_2".into(),
        hash: "cd".into(),
        user_id: Some("ann".into()),
        created: 2_000,
        ..key.clone()
    };
    database.create_key(&key).await.unwrap();
    // A command may do so while the server runs.
    let command = Database::open_beside(&rig.settings, rig.folder()).await.unwrap();
    command.create_key(&newer).await.unwrap();
    assert_eq!(database.create_key(&key).await.unwrap_err().code(), "storage_failed");
    let same_hash = ApiKey { id: "key_3".into(), ..key.clone() };
    assert_eq!(database.create_key(&same_hash).await.unwrap_err().code(), "storage_failed");

    assert_eq!(database.keys().await.unwrap(), [newer.clone(), key.clone()]);
    assert_eq!(database.key_by_hash(&key.hash).await.unwrap(), Some(key.clone()));
    assert_eq!(database.key_by_hash("ef").await.unwrap(), None);

    database.key_used("key_1", 5_000).await.unwrap();
    database.key_used("key_1", 4_000).await.unwrap();
    assert_eq!(command.revoke_key("key_1", 6_000).await, Ok(true));
    assert_eq!(database.revoke_key("key_1", 7_000).await, Ok(false));
    assert_eq!(database.revoke_key("key_9", 7_000).await, Ok(false));
    let revoked = ApiKey { revoked: Some(6_000), last_used: Some(5_000), ..key.clone() };
    assert_eq!(database.key_by_hash(&key.hash).await.unwrap(), Some(revoked));
    command.close().await;
}
