//! What the hub asks of storage, done: messages are kept, channels found, and saved over a restart.

use veche_doors::Error;
use veche_hub::{Epoch, Hub, Keep, Keeper, Load, Message, Position, PublishError, Task, Timestamp};
use veche_storage::{ChannelSnapshot, Database, KeptMessage, NewEvent, Receipt, StorageError, kind};

use crate::clock::Clock;
use crate::protocol::answer::refusal;

/// Puts the channels of a stop before back into the hub.
pub(crate) async fn restore(hub: &Hub, database: &Database, now: Timestamp) -> Result<(), Error> {
    let taken = database.take_snapshots().await;
    let snapshots = taken.map_err(|error| refusal(error.code(), error.to_string()))?;
    let count = snapshots.len();
    let restored = hub.restore(snapshots.into_iter().filter_map(of_storage).collect(), now);
    if count > 0 {
        tracing::info!(restored, of = count, "channels of before are back");
    }
    Ok(())
}

/// Saves the channels for the next start.
pub(crate) async fn save(hub: &Hub, database: &Database) {
    let snapshots = hub.snapshot().into_iter().map(|snapshot| ChannelSnapshot {
        channel: snapshot.name.to_string(),
        epoch: snapshot.position.epoch.to_string(),
        offset: snapshot.position.offset,
        body: snapshot.body,
    });
    if let Err(error) = database.save_snapshots(snapshots.collect()).await {
        tracing::error!(%error, "channels could not be saved: whoever comes back begins anew");
    }
}

/// Does what the hub asks for until the hub is gone. Loads wait for the disk in tasks of their own, since the hub holds
/// back what comes for a channel that is not loaded; what is to be kept is queued at once, in order, and answered when it
/// is committed.
pub(crate) async fn run(mut keeper: Keeper, database: Database, clock: Clock) {
    let mut tasks = Vec::new();
    while keeper.next_batch(&mut tasks).await {
        for task in tasks.drain(..) {
            match task {
                Task::Load(load) => {
                    tokio::spawn(find(load, database.clone(), clock));
                }
                Task::Keep(keep) => match queue(&keep, &database) {
                    Ok(receipt) => {
                        tokio::spawn(settle(keep, receipt, clock));
                    }
                    Err(why) => keep.failed(why, clock.now()),
                },
                Task::Removed(channel) => {
                    let event = NewEvent::new(kind::CHANNEL_DELETED, clock.now().0 as i64);
                    database.record(event.channel(channel.as_str()));
                }
            }
        }
    }
}

async fn find(load: Load, database: Database, clock: Clock) {
    let now = clock.now();
    match database.channel(load.channel().as_str(), now.0 as i64).await {
        Ok(stored) => {
            // Also where messages of it are kept: it was gone from the views since it idled away, or the server started.
            let event = NewEvent::new(kind::CHANNEL_CREATED, now.0 as i64);
            database.record(event.channel(load.channel().as_str()));
            let kept = stored.kept.iter().filter_map(|kept| {
                let message = Message::from_stored(&kept.body);
                message
                    .inspect_err(|error| tracing::error!(%error, channel = %kept.channel, "unreadable"))
                    .ok()
            });
            load.found(stored.highest_offset, kept.collect(), clock.now());
        }
        Err(error) => {
            tracing::error!(%error, channel = %load.channel(), "cannot be read from storage");
            load.failed(&error.to_string(), clock.now());
        }
    }
}

fn queue(keep: &Keep, database: &Database) -> Result<Receipt, PublishError> {
    let message = keep.message();
    let (Some(channel), Some(position)) = (message.channel(), message.position()) else {
        return Err(PublishError::Storage("only messages of channels can be kept".into()));
    };
    let kept = KeptMessage {
        channel: channel.to_string(),
        offset: position.offset,
        epoch: position.epoch.to_string(),
        message_id: message.id.to_string(),
        time: message.time.0 as i64,
        user_id: message.sender.as_ref().and_then(|sender| sender.user_id.as_deref()).map(ToOwned::to_owned),
        body: message.to_stored(),
    };
    let size = kept.body.len();
    database.keep(kept).map_err(|error| why_not(&error, size))
}

/// Why a message of this size is not kept, as its sender is told.
fn why_not(error: &StorageError, size: usize) -> PublishError {
    match error {
        StorageError::Busy => PublishError::Busy,
        StorageError::TooLarge { limit } => {
            PublishError::TooLarge { size, limit: usize::try_from(*limit).unwrap_or(usize::MAX) }
        }
        StorageError::Closed => PublishError::Draining,
        error => PublishError::Storage(error.to_string()),
    }
}

async fn settle(keep: Keep, receipt: Receipt, clock: Clock) {
    match receipt.await {
        Ok(()) => keep.committed(clock.now()),
        Err(error) => {
            tracing::error!(%error, "a message could not be kept");
            let size = keep.message().to_stored().len();
            keep.failed(why_not(&error, size), clock.now());
        }
    }
}

fn of_storage(snapshot: ChannelSnapshot) -> Option<veche_hub::ChannelSnapshot> {
    let epoch: Epoch = snapshot.epoch.parse().ok()?;
    Some(veche_hub::ChannelSnapshot {
        name: snapshot.channel.parse().ok()?,
        position: Position { epoch, offset: snapshot.offset },
        body: snapshot.body,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_are_told_what_storage_says() {
        let code = |error: StorageError| why_not(&error, 9).code();
        assert_eq!(code(StorageError::Busy), "storage_busy");
        assert_eq!(code(StorageError::TooLarge { limit: 8 }), "message_too_large");
        assert_eq!(code(StorageError::Closed), "stopping");
        assert_eq!(code(StorageError::Failed("the disk is full".into())), "storage_unavailable");
    }
}
