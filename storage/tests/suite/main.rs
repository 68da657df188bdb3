//! One suite for both databases: every story is told on SQLite as a test of its own, and on a real PostgreSQL server.

mod crash;
mod disk;
mod postgres;
mod rig;
mod stories;

use rig::Rig;

/// A story, for a list.
type Story = fn(Rig) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

macro_rules! tell {
    ($($module:ident :: $story:ident,)*) => {
        mod sqlite {
            $(
                #[tokio::test]
                async fn $story() {
                    crate::stories::$module::$story(crate::rig::Rig::sqlite()).await;
                }
            )*
        }

        const STORIES: &[(&str, Story)] = &[
            $((stringify!($story), |rig| Box::pin(stories::$module::$story(rig))),)*
        ];
    };
}

tell! {
    database::a_newer_database_is_refused,
    database::a_second_server_is_refused_and_a_command_is_not,
    database::after_closing_everything_says_so,
    events::are_read_by_sequence_room_and_channel,
    events::that_are_lost_leave_a_gap_in_the_log,
    events::go_by_count_and_by_age_and_their_numbers_never_return,
    events::tell_of_themselves_when_they_are_committed,
    files::are_found_by_channel_room_and_owner,
    files::stay_within_quotas,
    files::expire_and_go,
    kept::messages_come_back_in_order_after_a_restart,
    kept::a_channel_keeps_its_newest_by_count,
    kept::a_channel_keeps_its_newest_by_bytes,
    kept::all_channels_together_are_bounded,
    kept::old_messages_go,
    kept::a_full_queue_refuses_at_once,
    kept::a_message_that_cannot_be_stored_takes_no_other_along,
    kept::commits_are_shared,
    kept::a_channel_can_be_forgotten,
    keys::are_found_by_hash_and_revoked_once,
    snapshots::are_taken_once,
    views::rebuilt_are_those_that_were_lived_through,
    crash::what_was_acknowledged_survives_kill_9,
}

/// Real PostgreSQL, one server for all stories, a database for each.
#[tokio::test]
async fn postgres_passes_the_same_suite() {
    let server = postgres::Server::start();
    let mut failed = Vec::new();
    for (name, story) in STORIES {
        let began = std::time::Instant::now();
        let rig = Rig::postgres(&server, name).await;
        // A panic stays in its task and is printed there.
        if tokio::spawn(story(rig)).await.is_err() {
            failed.push(*name);
        }
        println!("{name}: {:?}", began.elapsed());
    }
    assert!(failed.is_empty(), "these fail on PostgreSQL: {failed:?}");
}

/// The server of the database dies and comes back: until then everything is an error, and afterwards nothing is missing.
#[tokio::test]
async fn postgres_may_die_and_come_back() {
    let mut server = postgres::Server::start();
    let rig = Rig::postgres(&server, "mortal").await;
    let database = rig.open().await;
    for offset in 1..=20 {
        database.keep(rig::message("a", offset)).unwrap().await.unwrap();
    }
    server.kill();
    let error = database.keep(rig::message("a", 21)).unwrap().await.unwrap_err();
    assert_eq!(error.code(), "storage_failed", "{error}");
    server.start_again();
    database.keep(rig::message("a", 22)).unwrap().await.unwrap();
    let kept: Vec<u64> = (1..=20).chain([22]).collect();
    assert_eq!(rig::offsets(&database, "a").await, kept);
    // The lock against a second server ended with its connection, and is taken again.
    database.look_after_lock().await;
    assert_eq!(rig.try_open().await.unwrap_err().code(), "storage_in_use");
    database.close().await;
}

/// Where another server was faster, this one says so, and goes on trying.
#[tokio::test]
async fn a_lock_that_another_server_has_taken_is_taken_again_when_that_is_gone() {
    let mut server = postgres::Server::start();
    let rig = Rig::postgres(&server, "two").await;
    let database = rig.open().await;
    server.kill();
    server.start_again();
    let other = rig.open().await;
    database.look_after_lock().await;
    assert_eq!(rig.try_open().await.unwrap_err().code(), "storage_in_use");
    other.close().await;
    database.look_after_lock().await;
    assert_eq!(rig.try_open().await.unwrap_err().code(), "storage_in_use");
    database.close().await;
    rig.open().await.close().await;
}
