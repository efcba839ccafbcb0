//! Contents that cannot be read, and whose fault that is.

use std::convert::Infallible;

use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::*;
use crate::error::Corrupted;

async fn saved(store: &FileStore, text: &'static str) -> Saved {
    let contents = stream::iter([Ok::<_, Infallible>(Bytes::from_static(text.as_bytes()))]);
    let mut saved = store
        .save("d", Uuid::new_v4(), "a", contents, 1000)
        .await
        .unwrap();
    saved.keep();
    saved
}

#[tokio::test]
async fn a_root_without_its_marker_proves_nothing_of_any_file() {
    let folder = tempfile::tempdir().unwrap();
    let (root, away) = (folder.path().join("files"), folder.path().join("away"));
    let store = FileStore::at(&root);
    let id = Uuid::new_v4();
    store.mark(id).await.unwrap();
    store.mark(Uuid::new_v4()).await.unwrap();
    assert_eq!(store.marker().await.unwrap(), Some(id), "the first one stays");
    store.expect(id);
    let saved = saved(&store, "text").await;
    let lost = format!("d/{}/000-000-a", Uuid::new_v4());
    assert!(matches!(store.open(&lost).await, Err(FilesError::NotFound(_))));
    assert!(!store.delete(&lost).await.unwrap());
    assert!(
        store.failure().is_none(),
        "a lost file is no failure of this machine's"
    );

    // As if it were unmounted.
    std::fs::rename(&root, &away).unwrap();
    std::fs::create_dir(&root).unwrap();
    let not_mounted =
        |error: &FilesError| matches!(error, FilesError::NotMounted(_)) && error.is_about_all_files();
    assert!(not_mounted(&store.open(&saved.relative_path).await.unwrap_err()));
    assert!(not_mounted(
        &store.delete(&saved.relative_path).await.unwrap_err()
    ));
    let refused = store
        .save(
            "d",
            Uuid::new_v4(),
            "a",
            stream::iter([Ok::<_, Infallible>(Bytes::new())]),
            10,
        )
        .await;
    assert!(matches!(refused, Err(SaveError::Files(error)) if not_mounted(&error)));
    assert!(store.probe().await.is_err());
    let reason = store.failure().unwrap().to_string();
    assert!(reason.contains("is it mounted?"), "{reason}");
    assert!(!root.join(".incoming").exists(), "nothing was put there");

    std::fs::remove_dir(&root).unwrap();
    std::fs::rename(&away, &root).unwrap();
    store.probe().await.unwrap();
    assert!(store.failure().is_none());
    assert!(store.open(&saved.relative_path).await.is_ok());

    // Another installation's folder.
    store.expect(Uuid::new_v4());
    assert!(not_mounted(&store.check_root().await.unwrap_err()));
    store.distrust("nobody knows");
    let error = store.check_root().await.unwrap_err().to_string();
    assert!(error.ends_with("nobody knows"), "{error}");
}

#[tokio::test]
async fn an_error_of_the_disk_is_remembered_until_the_same_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::at(folder.path());
    let saved = saved(&store, "text").await;
    let (path, aside) = (
        folder.path().join(&saved.relative_path),
        folder.path().join("aside"),
    );
    std::fs::rename(&path, &aside).unwrap();
    // A name that leads to itself cannot be opened, whoever asks.
    std::os::unix::fs::symlink(&path, &path).unwrap();
    let error = store.open(&saved.relative_path).await.unwrap_err();
    assert!(
        error.is_storage_failure() && !error.is_about_all_files(),
        "{error}"
    );
    assert!(store.failure().is_some() && store.probe().await.is_err());
    assert!(store.pause() >= Duration::from_secs(1));
    std::fs::remove_file(&path).unwrap();
    std::fs::rename(&aside, &path).unwrap();
    store.probe().await.unwrap();
    assert!(store.failure().is_none());
}

#[test]
fn being_out_of_descriptors_is_about_all_files() {
    for (code, all) in [(23, true), (24, true), (5, false), (116, false), (13, false)] {
        let error = failed("open")(io::Error::from_raw_os_error(code));
        assert!(error.is_storage_failure());
        assert_eq!(error.is_about_all_files(), all, "{code}");
    }
}

#[tokio::test]
async fn what_is_read_against_its_hash_ends_before_the_last_piece_if_it_differs() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::at(folder.path());
    let saved = saved(&store, "right").await;
    let read = async |sha256: String| {
        let contents = store.open(&saved.relative_path).await.unwrap();
        let pieces = contents.verified(&sha256).await.unwrap();
        pieces.collect::<Vec<_>>().await
    };
    let whole: Vec<Bytes> = read(saved.sha256.clone())
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert_eq!(whole.concat(), b"right");
    assert_eq!(store.sha256(&saved.relative_path).await.unwrap(), saved.sha256);

    std::fs::write(folder.path().join(&saved.relative_path), "wrong").unwrap();
    let mut pieces = read(saved.sha256.clone()).await;
    assert_eq!(pieces.len(), 1, "not a byte of the only piece");
    let error = pieces.remove(0).unwrap_err();
    let corrupted = error
        .get_ref()
        .and_then(|error| error.downcast_ref::<Corrupted>());
    assert_eq!(corrupted.map(|error| &error.recorded), Some(&saved.sha256));
    assert_ne!(store.sha256(&saved.relative_path).await.unwrap(), saved.sha256);
    assert!(store.failure().is_none(), "that is the file's");
    let contents = store.open(&saved.relative_path).await.unwrap();
    let part: Vec<Bytes> = contents.part(1, 3).await.unwrap().try_collect().await.unwrap();
    assert_eq!(part.concat(), b"ron");
}
