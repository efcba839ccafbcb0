//! The store on a real folder.

use std::convert::Infallible;
use std::time::Duration;

use futures::{TryStreamExt as _, stream};

use super::*;

struct Fixture {
    folder: tempfile::TempDir,
    store: FileStore,
}

fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::at(folder.path().join("files"));
    Fixture { folder, store }
}

impl Fixture {
    /// Every file below the root, relative to it, sorted.
    fn files(&self) -> Vec<String> {
        let mut files = Vec::new();
        let mut folders = vec![self.folder.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    files.push(
                        path.strip_prefix(self.folder.path())
                            .unwrap()
                            .display()
                            .to_string(),
                    );
                }
            }
        }
        files.sort();
        files
    }

    async fn read(&self, relative_path: &str) -> Vec<u8> {
        let contents = self.store.open(relative_path).await.unwrap();
        let length = contents.size_bytes();
        let pieces: Vec<Bytes> = contents.pieces().await.unwrap().try_collect().await.unwrap();
        let bytes = pieces.concat();
        assert_eq!(bytes.len() as u64, length);
        bytes
    }
}

fn pieces(parts: &[&'static str]) -> impl Stream<Item = Result<Bytes, Infallible>> + use<> {
    stream::iter(
        parts
            .iter()
            .map(|part| Ok(Bytes::from_static(part.as_bytes())))
            .collect::<Vec<_>>(),
    )
}

#[tokio::test]
async fn contents_come_back_with_their_hash_and_size() {
    let fixture = fixture();
    let id = Uuid::new_v4();
    let mut saved = fixture
        .store
        .save("d1", id, "a.txt", pieces(&["hello ", "", "world"]), 11)
        .await
        .unwrap();
    saved.keep();
    assert_eq!(saved.size_bytes, 11);
    assert_eq!(
        saved.sha256,
        "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9"
    );
    assert_eq!(saved.head.as_ref(), b"hello world");
    assert!(
        saved.relative_path.starts_with(&format!("d1/{id}/b94d27b9934d-")),
        "{}",
        saved.relative_path
    );
    let path = saved.relative_path.clone();
    drop(saved);
    assert_eq!(fixture.read(&path).await, b"hello world");
    assert_eq!(fixture.files(), [format!("files/{path}")]);
}

#[tokio::test]
async fn hostile_names_stay_below_their_folder() {
    let fixture = fixture();
    let id = Uuid::new_v4();
    let long = "я".repeat(5000);
    for (domain, name) in [
        ("../..", "../../x"),
        ("/etc", "/etc/passwd"),
        ("a\0b", "\0"),
        (long.as_str(), &long),
        (".", ".."),
    ] {
        let mut saved = fixture
            .store
            .save(domain, id, name, pieces(&["x"]), 10)
            .await
            .unwrap();
        saved.keep();
        assert!(saved.relative_path.starts_with('~'), "{}", saved.relative_path);
        assert_eq!(fixture.read(&saved.relative_path).await, b"x");
    }
    let files = fixture.files();
    assert_eq!(files.len(), 5);
    assert!(
        files
            .iter()
            .all(|file| file.starts_with("files/~") && file.contains(&id.to_string())),
        "{files:?}"
    );
}

#[tokio::test]
async fn too_large_or_broken_off_leaves_nothing() {
    let fixture = fixture();
    let id = Uuid::new_v4();
    let too_large = fixture
        .store
        .save("d", id, "a", pieces(&["12345", "678901"]), 10)
        .await;
    assert!(matches!(too_large, Err(SaveError::TooLarge { limit: 10 })));

    let broken = stream::iter([Ok(Bytes::from_static(b"123")), Err("gone")]);
    let broken = fixture.store.save("d", id, "a", broken, 10).await;
    assert!(matches!(broken, Err(SaveError::Source("gone"))));

    // The client goes away in mid-upload: the future is dropped.
    let endless = pieces(&["123"]).chain(stream::pending());
    let cancelled = fixture.store.save("d", id, "a", endless, 10);
    assert!(
        tokio::time::timeout(Duration::from_millis(50), cancelled)
            .await
            .is_err()
    );

    assert_eq!(fixture.files(), [""; 0]);
}

#[tokio::test]
async fn contents_that_are_not_kept_go() {
    let fixture = fixture();
    let id = Uuid::new_v4();
    let mut kept = fixture
        .store
        .save("d", id, "a", pieces(&["same"]), 10)
        .await
        .unwrap();
    kept.keep();
    let dropped = fixture
        .store
        .save("d", id, "a", pieces(&["same"]), 10)
        .await
        .unwrap();
    assert_ne!(
        kept.relative_path, dropped.relative_path,
        "a version never overwrites another, not even its equal"
    );
    drop(dropped);
    assert_eq!(fixture.files(), [format!("files/{}", kept.relative_path)]);
}

#[tokio::test]
async fn an_open_version_survives_its_replacement_and_removal() {
    let fixture = fixture();
    let id = Uuid::new_v4();
    let mut old = fixture
        .store
        .save("d", id, "a", pieces(&["old"]), 10)
        .await
        .unwrap();
    old.keep();
    let reader = fixture.store.open(&old.relative_path).await.unwrap();
    let mut new = fixture
        .store
        .save("d", id, "a", pieces(&["new"]), 10)
        .await
        .unwrap();
    new.keep();
    assert!(fixture.store.delete(&old.relative_path).await.unwrap());
    let text: Vec<Bytes> = reader.pieces().await.unwrap().try_collect().await.unwrap();
    assert_eq!(text.concat(), b"old");
    assert_eq!(fixture.read(&new.relative_path).await, b"new");
    assert!(
        !fixture.store.delete(&old.relative_path).await.unwrap(),
        "it is gone already"
    );
    assert!(matches!(
        fixture.store.open(&old.relative_path).await,
        Err(FilesError::NotFound(_))
    ));
    assert!(fixture.store.delete(&new.relative_path).await.unwrap());
    assert!(
        !fixture
            .folder
            .path()
            .join("files/d")
            .join(id.to_string())
            .exists(),
        "its folder goes with the last"
    );
}

#[tokio::test]
async fn the_head_is_limited_and_large_contents_are_whole() {
    let fixture = fixture();
    let piece = Bytes::from(vec![7_u8; 100_000]);
    let large = stream::iter(
        (0..20)
            .map(|_| Ok::<_, Infallible>(piece.clone()))
            .collect::<Vec<_>>(),
    );
    let saved = fixture
        .store
        .save("d", Uuid::new_v4(), "a.bin", large, u64::MAX)
        .await
        .unwrap();
    assert_eq!(saved.head.len(), HEAD_BYTES);
    assert_eq!(saved.size_bytes, 2_000_000);
    assert_eq!(
        hex::encode(Sha256::digest(fixture.read(&saved.relative_path).await)),
        saved.sha256
    );
}

#[tokio::test]
async fn many_saves_and_deletes_of_one_file_do_not_disturb_each_other() {
    let fixture = fixture();
    let id = Uuid::new_v4();
    let tasks: Vec<_> = (0..40)
        .map(|_| {
            let store = fixture.store.clone();
            tokio::spawn(async move {
                let mut saved = store.save("d", id, "a", pieces(&["x"]), 10).await.unwrap();
                saved.keep();
                assert!(store.delete(&saved.relative_path).await.unwrap());
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(fixture.files(), [""; 0]);
}

#[tokio::test]
async fn all_versions_of_a_file_go_at_once_and_no_others() {
    let fixture = fixture();
    let (id, other) = (Uuid::new_v4(), Uuid::new_v4());
    for id in [id, id, other] {
        let mut saved = fixture
            .store
            .save("d", id, "a", pieces(&["x"]), 10)
            .await
            .unwrap();
        saved.keep();
    }
    assert_eq!(fixture.store.delete_versions("d", id).await.unwrap(), 2);
    assert_eq!(fixture.store.delete_versions("d", id).await.unwrap(), 0);
    assert_eq!(
        fixture.store.delete_versions("elsewhere", other).await.unwrap(),
        0
    );
    assert_eq!(fixture.files().len(), 1);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_disk_is_told_apart_from_other_trouble() {
    let full = fs::File::options().write(true).open("/dev/full").await.unwrap();
    let error = write(full, pieces(&["contents"]), 100).await.unwrap_err();
    assert!(
        matches!(&error, SaveError::Files(error) if error.is_out_of_space()),
        "{error:?}"
    );
    let Fixture { folder, store } = fixture();
    std::fs::remove_dir_all(folder.path()).unwrap();
    std::fs::write(folder.path(), "no folder").unwrap();
    let gone = store.save("d", Uuid::new_v4(), "a", pieces(&["x"]), 100).await;
    let gone = gone.unwrap_err();
    assert!(
        matches!(&gone, SaveError::Files(error) if !error.is_out_of_space()),
        "{gone:?}"
    );
}
