//! Walks through real folders, with everything in them that a folder can have.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use super::*;
use crate::MARKER;

const NAME: &str = "0123456789ab-0123456789ab-a.txt";

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
    fn path(&self, relative_path: &str) -> PathBuf {
        self.folder.path().join("files").join(relative_path)
    }

    fn plant(&self, relative_path: &str) {
        let path = self.path(relative_path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }

    /// In pages of this size; sorted.
    async fn walk(&self, limit: usize) -> Vec<Entry> {
        let mut all = Vec::new();
        let mut walk = self.store.walk();
        loop {
            let page;
            (walk, page) = walk.next_page(limit).await.unwrap();
            assert!(page.len() <= limit);
            if page.is_empty() {
                break;
            }
            all.extend(page);
        }
        all.sort_by(|a, b| a.relative_path.cmp(&b.relative_path));
        all
    }
}

fn paths(entries: &[Entry], what: fn(What) -> bool) -> Vec<&str> {
    let of_kind = entries.iter().filter(|entry| what(entry.what));
    of_kind.map(|entry| entry.relative_path.as_str()).collect()
}

#[tokio::test]
async fn everything_is_told_once_whatever_the_size_of_a_page() {
    let fixture = fixture();
    let ids: Vec<_> = (0..7).map(|_| Uuid::new_v4()).collect();
    let mut expected: Vec<_> = ids
        .iter()
        .enumerate()
        .map(|(n, id)| format!("d{}/{id}/{NAME}", n % 3))
        .collect();
    expected.sort();
    for path in &expected {
        fixture.plant(path);
    }
    for limit in [1, 2, 3, 7, 100] {
        let seen = fixture.walk(limit).await;
        assert_eq!(paths(&seen, |_| true), expected, "pages of {limit}");
        assert!(seen.iter().all(|entry| entry.size_bytes == 1));
        assert!(
            seen.iter()
                .all(|entry| matches!(entry.what, What::Contents(id) if ids.contains(&id)))
        );
    }
}

#[tokio::test]
async fn what_is_not_ours_is_strange_and_stays() {
    let fixture = fixture();
    let id = Uuid::new_v4();
    let outside = fixture.folder.path().join("outside");
    fs::create_dir_all(outside.join(id.to_string())).unwrap();
    fs::write(outside.join(id.to_string()).join(NAME), "x").unwrap();
    for path in [
        "README",
        "lost+found/x",
        "d/notes.txt",
        "d/not-a-uuid/x",
        &format!("d/{id}/notes.txt"),
        &format!("d/{id}/{NAME}.d/x"),
        ".incoming/hello",
    ] {
        fixture.plant(path);
    }
    symlink(&outside, fixture.path("linked")).unwrap();
    symlink(
        outside.join(id.to_string()),
        fixture.path(&format!("d/{}", Uuid::new_v4())),
    )
    .unwrap();
    symlink(
        outside.join(id.to_string()).join(NAME),
        fixture.path(&format!("d/{id}/{NAME}")),
    )
    .unwrap();
    fixture.plant(MARKER);

    let seen = fixture.walk(100).await;
    assert_eq!(seen.len(), 10, "the marker is nothing to speak of: {seen:#?}");
    for entry in &seen {
        assert_eq!(entry.what, What::Strange, "{entry:?}");
        assert!(
            !fixture
                .store
                .remove_leftover(entry, Duration::ZERO)
                .await
                .unwrap()
        );
    }
    assert_eq!(fixture.walk(100).await.len(), 10);
    assert!(outside.join(id.to_string()).join(NAME).exists());
}

#[tokio::test]
async fn leftovers_go_by_age_and_their_folders_with_the_last() {
    let fixture = fixture();
    let id = Uuid::new_v4();
    let upload = format!(".incoming/{}", Uuid::new_v4());
    let (first, second) = (format!("d/{id}/{NAME}"), format!("d/{id}/{NAME}2"));
    for path in [&upload, &first, &second] {
        fixture.plant(path);
    }
    fs::create_dir_all(fixture.path(&format!("e/{id}"))).unwrap();

    let seen = fixture.walk(100).await;
    assert_eq!(paths(&seen, |what| what == What::Upload), [upload]);
    assert_eq!(
        paths(&seen, |what| what == What::EmptyFolder),
        [format!("e/{id}")]
    );
    for entry in &seen {
        let young = Duration::from_mins(1);
        assert!(
            !fixture.store.remove_leftover(entry, young).await.unwrap(),
            "{entry:?}"
        );
    }
    for (n, entry) in seen.iter().enumerate() {
        assert!(
            fixture
                .store
                .remove_leftover(entry, Duration::ZERO)
                .await
                .unwrap()
        );
        assert!(
            !fixture
                .store
                .remove_leftover(entry, Duration::ZERO)
                .await
                .unwrap(),
            "number {n} is gone"
        );
    }
    // Each walk finds the folders that the last one emptied.
    let seen = fixture.walk(100).await;
    assert_eq!(paths(&seen, |what| what == What::EmptyFolder), ["d", "e"]);
    for entry in &seen {
        assert!(
            fixture
                .store
                .remove_leftover(entry, Duration::ZERO)
                .await
                .unwrap()
        );
    }
    assert_eq!(fixture.walk(100).await, []);
}

#[tokio::test]
async fn what_has_changed_since_the_walk_stays() {
    let fixture = fixture();
    let id = Uuid::new_v4();
    fs::create_dir_all(fixture.path(&format!("d/{id}"))).unwrap();
    let seen = fixture.walk(100).await;
    fixture.plant(&format!("d/{id}/{NAME}"));
    assert!(
        !fixture
            .store
            .remove_leftover(&seen[0], Duration::ZERO)
            .await
            .unwrap()
    );
    assert_eq!(fixture.walk(100).await.len(), 1);
}

#[tokio::test]
async fn contents_that_rows_name_are_missed() {
    let fixture = fixture();
    let id = Uuid::new_v4();
    let (here, gone) = (format!("d/{id}/{NAME}"), format!("d/{id}/{NAME}2"));
    let strange = format!("{here}/{id}/x");
    fixture.plant(&here);
    fs::create_dir_all(fixture.path(&format!("d/{id}/folder"))).unwrap();
    let asked = [
        &here,
        &gone,
        &strange,
        &format!("d/{id}/folder"),
        &format!("x/{id}/{NAME}"),
    ];
    let missing = fixture
        .store
        .without_contents(asked.map(Clone::clone).to_vec())
        .await
        .unwrap();
    assert_eq!(missing.len(), 4, "{missing:?}");
    assert!(!missing.contains(&here));
}
