//! The catalogue of files.

use veche_storage::{FileQuery, FileQuotas, FileRow, FileScope, FileUsage, QuotaKind, StorageError};

use crate::rig::Rig;

pub(crate) async fn are_found_by_channel_room_and_owner(rig: Rig) {
    let database = rig.open().await;
    for number in 0..20 {
        database.insert_file(&file(number), &FileQuotas::default()).await.unwrap();
    }
    assert_eq!(database.file("file_03").await.unwrap(), Some(file(3)));
    assert_eq!(database.file("file_99").await.unwrap(), None);
    assert_eq!(
        database.insert_file(&file(3), &FileQuotas::default()).await.unwrap_err().code(),
        "storage_failed"
    );

    let ids = async |query: FileQuery| -> Vec<String> {
        database.files(&query).await.unwrap().into_iter().map(|file| file.id).collect()
    };
    let ann = FileQuery { owner: Some("ann".into()), limit: 3, ..FileQuery::default() };
    assert_eq!(ids(ann.clone()).await, ["file_18", "file_16", "file_14"]);
    // Pages go on where the last one ended, even within one millisecond.
    let rest = FileQuery { before: Some((file(14).created, "file_14".into())), ..ann };
    assert_eq!(ids(rest).await, ["file_12", "file_10", "file_08"]);
    let both = FileQuery {
        channel: Some("even".into()),
        room: Some("room-0".into()),
        limit: 9_999,
        ..FileQuery::default()
    };
    assert_eq!(ids(both).await, ["file_18", "file_12", "file_06", "file_00"]);

    assert_eq!(database.delete_file("file_18", 77).await.unwrap().unwrap().deleted, Some(77));
    assert_eq!(database.delete_file("file_18", 78).await.unwrap(), None);
    assert_eq!(database.delete_file("unknown", 78).await.unwrap(), None);
    let ann = FileQuery { owner: Some("ann".into()), limit: 1, ..FileQuery::default() };
    assert_eq!(ids(ann).await, ["file_16"]);
    assert_eq!(database.object_uses("object-1").await.unwrap(), 10);
    assert_eq!(database.object_uses("object-9").await.unwrap(), 0);
}

pub(crate) async fn stay_within_quotas(rig: Rig) {
    let database = rig.open().await;
    let quotas = FileQuotas {
        owner_bytes: Some(300),
        room_bytes: Some(400),
        channel_bytes: Some(500),
        total_bytes: Some(600),
    };
    let of = |number: u32, owner: Option<&str>, room: Option<&str>, channel: Option<&str>| FileRow {
        owner: owner.map(str::to_owned),
        room: room.map(str::to_owned),
        channel: channel.map(str::to_owned),
        ..file(number)
    };
    let put = async |file: FileRow| database.insert_file(&file, &quotas).await;
    let exceeded = |kind| Err(StorageError::QuotaExceeded(kind));
    for number in 0..3 {
        assert_eq!(put(of(number, Some("ann"), Some("r"), Some("c"))).await, Ok(()));
    }
    assert_eq!(put(of(3, Some("ann"), None, None)).await, exceeded(QuotaKind::Owner));
    assert_eq!(put(of(3, Some("bob"), Some("r"), Some("c"))).await, Ok(()));
    assert_eq!(put(of(4, Some("bob"), Some("r"), None)).await, exceeded(QuotaKind::Room));
    assert_eq!(put(of(4, Some("bob"), Some("s"), Some("c"))).await, Ok(()));
    assert_eq!(put(of(5, None, None, Some("c"))).await, exceeded(QuotaKind::Channel));
    assert_eq!(put(of(5, None, None, None)).await, Ok(()));
    assert_eq!(put(of(6, None, None, None)).await, exceeded(QuotaKind::Total));
    let text = StorageError::QuotaExceeded(QuotaKind::Total).to_string();
    assert_eq!(text, "the file goes beyond what may be stored on this server");

    assert_eq!(
        database.file_usage(FileScope::Owner("ann")).await.unwrap(),
        FileUsage { files: 3, bytes: 300 }
    );
    assert_eq!(database.file_usage(FileScope::Room("r")).await.unwrap(), FileUsage { files: 4, bytes: 400 });
    assert_eq!(
        database.file_usage(FileScope::Channel("c")).await.unwrap(),
        FileUsage { files: 5, bytes: 500 }
    );
    assert_eq!(database.file_usage(FileScope::Total).await.unwrap(), FileUsage { files: 6, bytes: 600 });
    database.delete_file("file_00", 1).await.unwrap();
    assert_eq!(database.file_usage(FileScope::Owner("bob")).await.unwrap().files, 2);
    assert_eq!(put(of(6, Some("ann"), None, None)).await, Ok(()));
}

pub(crate) async fn expire_and_go(rig: Rig) {
    let database = rig.open().await;
    for number in 0..4 {
        let expires = (number > 0).then(|| i64::from(number) * 100);
        database.insert_file(&FileRow { expires, ..file(number) }, &FileQuotas::default()).await.unwrap();
    }
    let ids = |files: Vec<FileRow>| files.into_iter().map(|file| file.id).collect::<Vec<_>>();
    let visible = FileQuery { now: 200, limit: 10, ..FileQuery::default() };
    assert_eq!(ids(database.files(&visible).await.unwrap()), ["file_03", "file_00"]);
    assert_eq!(ids(database.expired_files(200, 10).await.unwrap()), ["file_01", "file_02"]);
    assert_eq!(ids(database.expired_files(200, 1).await.unwrap()), ["file_01"]);
    database.delete_file("file_01", 250).await.unwrap();
    assert_eq!(ids(database.expired_files(200, 10).await.unwrap()), ["file_02"]);
    assert_eq!(ids(database.deleted_files(10).await.unwrap()), ["file_01"]);
    database.purge_file("file_01").await.unwrap();
    assert_eq!(database.deleted_files(10).await.unwrap(), []);
    assert_eq!(database.file("file_01").await.unwrap(), None);
}

fn file(number: u32) -> FileRow {
    let is_even = number.is_multiple_of(2);
    FileRow {
        id: format!("file_{number:02}"),
        channel: is_even.then(|| "even".to_owned()),
        room: Some(format!("room-{}", number % 3)),
        owner: Some(if is_even { "ann" } else { "bob" }.to_owned()),
        name: "отчёт.pdf".to_owned(),
        content_type: "application/pdf".to_owned(),
        size: 100,
        sha256: "00".repeat(32),
        object_key: format!("object-{}", number % 2),
        details: "{}".to_owned(),
        created: i64::from(number / 4),
        expires: None,
        deleted: None,
    }
}
