//! Snapshots of channels.

use veche_storage::ChannelSnapshot;

use crate::rig::Rig;

pub(crate) async fn are_taken_once(rig: Rig) {
    let snapshot = |number: u64| ChannelSnapshot {
        channel: format!("channel-{number:04}"),
        epoch: format!("{number:08x}"),
        offset: number * 3,
        body: vec![number as u8; number as usize].into(),
    };
    let first: Vec<_> = (0..100).map(snapshot).collect();
    let second: Vec<_> = (50..130).map(snapshot).collect();
    let database = rig.open().await;
    database.save_snapshots(first).await.unwrap();
    database.save_snapshots(second.clone()).await.unwrap();
    database.close().await;

    let database = rig.open().await;
    assert_eq!(database.take_snapshots().await.unwrap(), second);
    assert_eq!(database.take_snapshots().await.unwrap(), []);
}
