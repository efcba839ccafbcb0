//! Claims FILES_ROOT for this installation: a marker file in the folder has an id that the database knows. A folder without
//! the marker counts as not mounted, and no file counts as lost because of it.
//!
//! A folder without a marker is claimed only if the database knows no files, or if some of its newest files are there. So an
//! installation that is older than the marker gets one, and an empty mount point does not.

use std::time::Duration;

use rag_db::{DbError, files_root, files_sweep};
use rag_files::{FileStore, FilesError, Marker};
use sqlx::MySqlPool;
use uuid::Uuid;

/// The marker's name in the folder.
const MARKER: &str = ".rag-files-root";
/// How many files are searched for in a folder without a marker.
const SAMPLE: u32 = 50;
/// How often a claim is retried.
const RETRY_EVERY: Duration = Duration::from_secs(5);

/// Why the folder was not claimed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClaimError {
    #[error(transparent)]
    Database(#[from] DbError),
    #[error(transparent)]
    Files(#[from] FilesError),
    #[error("the database holds no valid marker of FILES_ROOT")]
    Marker(#[from] uuid::Error),
}

/// Claims the folder, or recognises it by its marker. Until that succeeds no file is read or written.
pub(crate) async fn claim(db: &MySqlPool, files: &FileStore) -> Result<(), ClaimError> {
    files.distrust("it was not checked yet");
    let claimed = try_claim(db, files).await;
    if let Err(error) = &claimed {
        files.distrust(&error.to_string());
    }
    claimed
}

/// Retries until the folder is claimed; logs each reason once.
pub(crate) async fn claim_in_time(db: MySqlPool, files: FileStore) {
    let mut said = String::new();
    while let Err(error) = claim(&db, &files).await {
        let reason = error.to_string();
        if reason != said {
            tracing::error!(reason, "FILES_ROOT cannot be used");
            said = reason;
        }
        tokio::time::sleep(RETRY_EVERY).await;
    }
    tracing::info!("FILES_ROOT is the folder of this installation's files");
}

async fn try_claim(db: &MySqlPool, files: &FileStore) -> Result<(), ClaimError> {
    let known = files_root::find(&mut *acquire(db).await?).await?;
    let (known, there) = (
        known.as_deref().map(Uuid::try_parse).transpose()?,
        files.marker().await?,
    );
    let marker = match (known, there) {
        (Some(known), Some(_)) => known,
        (None, Some(there)) => {
            require_evidence(db, files, None).await?;
            decide(db, there).await?
        }
        (known, None) => {
            // The id is chosen before the folder is checked: an operator who overrides the check needs an id to write there.
            let marker = match known {
                Some(marker) => marker,
                None => decide(db, Uuid::new_v4()).await?,
            };
            require_evidence(db, files, Some(marker)).await?;
            marker
        }
    };
    if there.is_none() {
        files.mark(marker).await?;
    }
    files.expect(marker);
    Ok(files.check_root().await?)
}

/// Tells another database that sweeps this folder that files of ours are in it, so that it does not delete them. A worker does
/// the same, but there may be none.
pub(crate) async fn tell_owner(db: &MySqlPool, files: &FileStore) -> Result<(), ClaimError> {
    files.check_root().await?;
    let own = files_sweep::get(&mut *acquire(db).await?).await?.database_id;
    let Marker::Of(lines) = files.read_marker().await? else {
        return Ok(());
    };
    if lines.iter().all(|line| line.database_id != own) {
        tracing::error!("FILES_ROOT is another database's too: it is not swept any more");
        files.join_marker(&own).await?;
    }
    Ok(())
}

/// Stores the marker's id. If several processes do so at once, one wins.
async fn decide(db: &MySqlPool, marker: Uuid) -> Result<Uuid, ClaimError> {
    let first = files_root::insert(&mut *acquire(db).await?, &marker.to_string()).await?;
    Ok(Uuid::try_parse(&first)?)
}

/// Checks that the folder may be claimed. `marker` is the id that would make it ours.
async fn require_evidence(db: &MySqlPool, files: &FileStore, marker: Option<Uuid>) -> Result<(), ClaimError> {
    let paths = files_root::list_newest_paths(&mut *acquire(db).await?, SAMPLE).await?;
    for path in &paths {
        if files.exists(path).await? {
            return Ok(());
        }
    }
    if paths.is_empty() {
        return Ok(());
    }
    let newest = paths.len();
    let reason = match marker {
        Some(marker) => format!(
            "it has no marker, and none of the {newest} newest files lie in it; is it mounted? If it is the folder, and they are \
             lost, write {marker} into its {MARKER}"
        ),
        None => format!(
            "it has another installation's marker, and none of the {newest} newest files lie in it; if it is this \
             installation's all the same, remove its {MARKER}"
        ),
    };
    Err(FilesError::NotMounted(reason).into())
}

async fn acquire(db: &MySqlPool) -> Result<sqlx::pool::PoolConnection<sqlx::MySql>, DbError> {
    Ok(db.acquire().await?)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use futures::stream;
    use rag_db::files;
    use rag_domain::{DomainId, FileId};

    use super::*;

    async fn store_a_file(db: &MySqlPool, store: &FileStore) -> String {
        let (id, domain) = (FileId::new(), DomainId::try_from("d".to_owned()).unwrap());
        let contents = stream::iter([Ok::<_, Infallible>(Bytes::from_static(b"text"))]);
        let mut saved = store.save("d", id.into(), "a.md", contents, 100).await.unwrap();
        saved.keep();
        let new = files::NewFile {
            id,
            domain_id: domain,
            file_name: "a.md".to_owned(),
            file_type: "text/markdown".to_owned(),
            size_bytes: saved.size_bytes,
            sha256: saved.sha256.clone(),
            local_path: saved.relative_path.clone(),
            tags: None,
            notes: None,
            chunking_strategy: None,
        };
        files::insert(&mut db.acquire().await.unwrap(), &new)
            .await
            .unwrap();
        saved.relative_path.clone()
    }

    #[sqlx::test(migrator = "rag_db::MIGRATOR")]
    async fn an_older_installation_gets_its_marker_and_a_bare_mount_point_does_not(db: MySqlPool) {
        let folder = tempfile::tempdir().unwrap();
        let (real, bare) = (folder.path().join("real"), folder.path().join("bare"));
        // Files were stored before there were markers.
        let path = store_a_file(&db, &FileStore::at(&real)).await;

        let store = FileStore::at(&bare);
        let error = claim(&db, &store).await.unwrap_err().to_string();
        assert!(error.contains("is it mounted?"), "{error}");
        assert!(!bare.exists(), "nothing was made there");
        assert!(matches!(store.open(&path).await, Err(FilesError::NotMounted(_))));
        let mut connection = db.acquire().await.unwrap();

        let store = FileStore::at(&real);
        claim(&db, &store).await.unwrap();
        assert!(store.open(&path).await.is_ok());
        let marker = store.marker().await.unwrap().unwrap().to_string();
        assert_eq!(
            files_root::find(&mut connection).await.unwrap(),
            Some(marker.clone())
        );

        // Again, and after the marker was lost with a careless copy.
        claim(&db, &store).await.unwrap();
        std::fs::remove_file(real.join(".rag-files-root")).unwrap();
        claim(&db, &store).await.unwrap();
        assert_eq!(store.marker().await.unwrap().unwrap().to_string(), marker);

        // Another installation's folder is never this one's.
        let other = FileStore::at(&bare);
        other.mark(Uuid::new_v4()).await.unwrap();
        assert!(claim(&db, &other).await.is_err());
        assert!(matches!(other.open(&path).await, Err(FilesError::NotMounted(_))));
    }

    /// The disk is lost, and there is no backup: the operator goes on with an empty one.
    #[sqlx::test(migrator = "rag_db::MIGRATOR")]
    async fn an_operator_can_say_that_a_folder_without_the_newest_files_is_the_one(db: MySqlPool) {
        let folder = tempfile::tempdir().unwrap();
        let (lost, fresh) = (folder.path().join("lost"), folder.path().join("fresh"));
        let path = store_a_file(&db, &FileStore::at(&lost)).await;
        let store = FileStore::at(&fresh);
        let reason = claim(&db, &store).await.unwrap_err().to_string();
        let marker = files_root::find(&mut db.acquire().await.unwrap()).await.unwrap();
        let marker = marker.expect("something to write into the folder");
        assert!(reason.contains(&marker), "{reason}");

        std::fs::create_dir(&fresh).unwrap();
        std::fs::write(fresh.join(MARKER), format!("{marker}\n")).unwrap();
        claim(&db, &store).await.unwrap();
        assert!(matches!(store.open(&path).await, Err(FilesError::NotFound(_))));
        store_a_file(&db, &store).await;
    }

    #[sqlx::test(migrator = "rag_db::MIGRATOR")]
    async fn a_new_installation_takes_its_folder_into_use(db: MySqlPool) {
        let folder = tempfile::tempdir().unwrap();
        let stores: Vec<FileStore> = (0..4)
            .map(|_| FileStore::at(folder.path().join("files")))
            .collect();
        let claims = stores.iter().map(|store| claim(&db, store));
        for claimed in futures::future::join_all(claims).await {
            claimed.unwrap();
        }
        let path = store_a_file(&db, &stores[0]).await;
        assert!(stores[3].open(&path).await.is_ok());
    }
}
