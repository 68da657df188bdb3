//! What keeps things elsewhere: the database, and the bucket of files.

use std::future::Future;
use std::time::Duration;

use veche_doctor::Finding;
use veche_files::Files;
use veche_storage::Database;

use crate::config::Config;

/// How long each may take to answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// Tries those that the configuration names.
pub(super) async fn examine(config: &Config) -> Vec<Finding> {
    let (database, bucket) = tokio::join!(database(config), bucket(config));
    [Some(database), bucket].into_iter().flatten().collect()
}

async fn database(config: &Config) -> Finding {
    const CHECK: &str = "database";
    let what = "to ask the database for something small";
    let reached = in_time(async {
        let reached = Database::reach(&config.storage, &config.http.data_dir).await;
        reached.map_err(|error| error.to_string())
    });
    match reached.await {
        Ok(true) => Finding::fine(CHECK, what, "it answers"),
        Ok(false) => Finding::fine(CHECK, what, "it is not there yet; the server makes it when it starts"),
        Err(error) => Finding::failure(CHECK, what, error)
            .means("the server does not start; while it runs, messages of persistent channels are refused")
            .mend(
                "start the database, let this machine reach its port, and see to name and password: storage.url = \
                 \"postgres://veche:password@127.0.0.1/veche\"; or leave storage.url empty for a file in http.data_dir",
            ),
    }
}

async fn bucket(config: &Config) -> Option<Finding> {
    const CHECK: &str = "bucket";
    if !config.files.enabled {
        return None;
    }
    let store = &config.files.store;
    let what = format!("to write, read and remove an object in files.store = \"{store}\"");
    let key = format!("veche-doctor-{}", std::process::id());
    let tried = in_time(async { Files::try_bucket(&config.files, &key).await.transpose() }).await;
    Some(match tried {
        Ok(None) => return None,
        Ok(Some(())) => Finding::fine(CHECK, what, "it works"),
        Err(error) => Finding::failure(CHECK, what, error).means("nobody can upload or download files").mend(
            "see to files.s3_endpoint, s3_region, s3_access_key and s3_secret_key, that the bucket exists, and that the key may \
             put, get and delete; or leave files.store empty for a folder in http.data_dir",
        ),
    })
}

async fn in_time<T>(answer: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let silent = |_| Err(format!("no answer within {} s", PATIENCE.as_secs()));
    tokio::time::timeout(PATIENCE, answer).await.unwrap_or_else(silent)
}
