use proptest::prelude::*;

use super::*;

fn desired(file_id: FileId, sha: &str, upload: Option<(UploadStatus, &str, Option<&str>)>) -> DesiredFile {
    DesiredFile {
        file_id,
        file_name: "a.md".to_owned(),
        content_sha256: sha.to_owned(),
        size_bytes: 1,
        strategy: None,
        upload: upload.map(|(status, sha, external)| UploadedFile {
            status,
            content_sha256: sha.to_owned(),
            file_name: Some("a.md".to_owned()),
            external_file_id: external.map(str::to_owned),
        }),
    }
}

fn present(file_id: FileId, external: &str, sha: &str, state: AttachmentState) -> PresentFile {
    PresentFile {
        attachment_id: AttachmentId::new(),
        file_id,
        external_file_id: external.to_owned(),
        content_sha256: sha.to_owned(),
        strategy: None,
        state,
    }
}

#[test]
fn a_new_file_is_uploaded_and_attached() {
    let id = FileId::new();
    let plan = BuildPlan::new(&[desired(id, "a", None)], &[]);
    assert_eq!((plan.upload, plan.attach), (vec![id], vec![id]));
    assert_eq!(plan.counts.in_progress, 1);
}

#[test]
fn what_is_attached_as_wanted_is_left_alone() {
    let id = FileId::new();
    let row = present(id, "file-1", "a", AttachmentState::Completed);
    let plan = BuildPlan::new(
        &[desired(
            id,
            "a",
            Some((UploadStatus::Uploaded, "a", Some("file-1"))),
        )],
        &[row],
    );
    assert!(plan.is_complete());
    assert_eq!(plan.counts.completed, 1);
}

#[test]
fn changed_bytes_replace_the_old_version() {
    let id = FileId::new();
    let old = present(id, "file-1", "a", AttachmentState::Completed);
    let before = BuildPlan::new(
        &[desired(
            id,
            "b",
            Some((UploadStatus::Uploaded, "a", Some("file-1"))),
        )],
        std::slice::from_ref(&old),
    );
    assert_eq!((before.upload.len(), before.attach.len()), (1, 1));
    assert_eq!(
        before.detach,
        vec![(old.attachment_id, DetachReason::ContentChanged)]
    );

    let new = present(id, "file-2", "b", AttachmentState::Completed);
    let after = BuildPlan::new(
        &[desired(
            id,
            "b",
            Some((UploadStatus::Uploaded, "b", Some("file-2"))),
        )],
        &[old.clone(), new.clone()],
    );
    assert_eq!((after.upload.len(), after.attach.len()), (0, 0));
    assert_eq!(after.keep, vec![new.attachment_id]);
    assert_eq!(
        after.detach,
        vec![(old.attachment_id, DetachReason::ContentChanged)]
    );
}

#[test]
fn another_name_means_another_copy() {
    let id = FileId::new();
    let old = present(id, "file-1", "a", AttachmentState::Failed);
    for status in [UploadStatus::Uploaded, UploadStatus::Failed] {
        let mut file = desired(id, "a", Some((status, "a", Some("file-1"))));
        file.file_name = "a.txt".to_owned();
        let plan = BuildPlan::new(&[file], std::slice::from_ref(&old));
        assert_eq!((plan.upload, plan.attach), (vec![id], vec![id]), "{status}");
        assert_eq!(
            plan.detach,
            vec![(old.attachment_id, DetachReason::Renamed)],
            "{status}"
        );
    }
    // The name of an older row is not known.
    let mut file = desired(id, "a", Some((UploadStatus::Uploaded, "a", Some("file-1"))));
    file.upload.as_mut().unwrap().file_name = None;
    assert!(BuildPlan::new(&[file], &[old]).upload.is_empty());
}

#[test]
fn an_old_version_stays_when_its_replacement_fails() {
    let id = FileId::new();
    let old = present(id, "file-1", "a", AttachmentState::Completed);
    let new = present(id, "file-2", "b", AttachmentState::Failed);
    let indexing_failed = BuildPlan::new(
        &[desired(
            id,
            "b",
            Some((UploadStatus::Uploaded, "b", Some("file-2"))),
        )],
        &[old.clone(), new],
    );
    let upload_failed = BuildPlan::new(
        &[desired(id, "b", Some((UploadStatus::Failed, "b", None)))],
        std::slice::from_ref(&old),
    );
    for plan in [indexing_failed, upload_failed] {
        assert!(plan.is_complete());
        assert_eq!(plan.held, vec![old.attachment_id]);
        assert_eq!(plan.counts.failed, 1);
    }
}

#[test]
fn another_strategy_means_out_and_in_again() {
    let id = FileId::new();
    let row = present(id, "file-1", "a", AttachmentState::Completed);
    let mut file = desired(id, "a", Some((UploadStatus::Uploaded, "a", Some("file-1"))));
    file.strategy = Some(ChunkingStrategy::fixed(400, 100));
    let plan = BuildPlan::new(&[file], std::slice::from_ref(&row));
    assert_eq!(plan.attach, vec![id]);
    assert_eq!(
        plan.detach,
        vec![(row.attachment_id, DetachReason::StrategyChanged)]
    );
    assert!(plan.upload.is_empty(), "the bytes are there already");
}

#[test]
fn an_unlinked_file_leaves_and_a_leaving_one_counts_as_gone() {
    let id = FileId::new();
    let row = present(FileId::new(), "file-1", "a", AttachmentState::InProgress);
    let leaving = present(id, "file-2", "b", AttachmentState::Detaching);
    let file = desired(id, "b", Some((UploadStatus::Uploaded, "b", Some("file-2"))));
    let plan = BuildPlan::new(&[file], &[row.clone(), leaving]);
    assert_eq!(plan.detach, vec![(row.attachment_id, DetachReason::Unlinked)]);
    assert_eq!(plan.attach, vec![id]);
}

#[test]
fn a_forced_upload_replaces_the_copy_even_with_equal_bytes() {
    let id = FileId::new();
    let old = present(id, "file-1", "a", AttachmentState::Completed);
    let plan = BuildPlan::new(
        &[desired(
            id,
            "a",
            Some((UploadStatus::Uploaded, "a", Some("file-2"))),
        )],
        std::slice::from_ref(&old),
    );
    assert_eq!(plan.attach, vec![id]);
    assert_eq!(
        plan.detach,
        vec![(old.attachment_id, DetachReason::UploadedAgain)]
    );
}

/// A file as the world has it: wanted or not, and how far its copy and its attachment have come.
#[derive(Debug, Clone)]
struct World {
    desired: Vec<DesiredFile>,
    present: Vec<PresentFile>,
}

fn worlds() -> impl Strategy<Value = World> {
    let state = prop::sample::select(AttachmentState::ALL);
    let upload = prop::option::of((prop::sample::select(UploadStatus::ALL), 0..2_u8, any::<bool>()));
    let rows = prop::collection::vec((0..2_u8, any::<bool>(), state), 0..3);
    let one = (any::<bool>(), upload, rows);
    prop::collection::vec(one, 0..6).prop_map(|files| {
        let mut world = World {
            desired: Vec::new(),
            present: Vec::new(),
        };
        for (number, (is_wanted, upload, rows)) in files.into_iter().enumerate() {
            let id = FileId::new();
            for (version, has_strategy, state) in rows {
                let external = format!("file-{number}-{version}");
                let mut row = present(id, &external, &version.to_string(), state);
                row.strategy = has_strategy.then_some(ChunkingStrategy::AUTO);
                world.present.push(row);
            }
            if is_wanted {
                let mut file = desired(id, "1", None);
                file.upload = upload.map(|(status, version, has_name)| UploadedFile {
                    status,
                    content_sha256: version.to_string(),
                    file_name: Some(if has_name { "a.md" } else { "b.md" }.to_owned()),
                    external_file_id: (status == UploadStatus::Uploaded)
                        .then(|| format!("file-{number}-{version}")),
                });
                world.desired.push(file);
            }
        }
        world
    })
}

/// As a build carries it out, with a provider that takes everything.
fn apply(world: &World, plan: &BuildPlan) -> World {
    let mut world = world.clone();
    world
        .present
        .retain(|row| row.state != AttachmentState::Detaching);
    for file in world
        .desired
        .iter_mut()
        .filter(|file| plan.upload.contains(&file.file_id))
    {
        file.upload = Some(UploadedFile {
            status: UploadStatus::Uploaded,
            content_sha256: file.content_sha256.clone(),
            file_name: Some(file.file_name.clone()),
            external_file_id: Some(format!("new-{}", file.file_id)),
        });
    }
    world
        .present
        .retain(|row| plan.detach.iter().all(|(id, _)| *id != row.attachment_id));
    for file in world
        .desired
        .iter()
        .filter(|file| plan.attach.contains(&file.file_id))
    {
        let external = file
            .upload
            .as_ref()
            .and_then(|upload| upload.external_file_id.clone())
            .unwrap();
        let mut row = present(
            file.file_id,
            &external,
            &file.content_sha256,
            AttachmentState::Completed,
        );
        row.strategy = file.strategy;
        world.present.push(row);
    }
    world
}

proptest! {
    #[test]
    fn a_plan_that_was_carried_out_leaves_nothing_to_do(world in worlds()) {
        let plan = BuildPlan::new(&world.desired, &world.present);
        let after = apply(&world, &plan);
        let again = BuildPlan::new(&after.desired, &after.present);
        // A row beside a kept one that is about to fail, or a second row that is as wanted, may still leave; then nothing is left.
        let after = apply(&after, &again);
        prop_assert!(BuildPlan::new(&after.desired, &after.present).is_complete());
        prop_assert!(again.upload.is_empty() && again.attach.is_empty());
    }

    #[test]
    fn every_row_is_kept_held_or_detached_and_no_other(world in worlds()) {
        let plan = BuildPlan::new(&world.desired, &world.present);
        let mut judged: Vec<AttachmentId> = plan.keep.iter().chain(&plan.held).copied().collect();
        judged.extend(plan.detach.iter().map(|(id, _)| *id));
        judged.sort_unstable();
        let mut rows: Vec<AttachmentId> = world.present.iter().filter(|row| row.state != AttachmentState::Detaching).map(|row| row.attachment_id).collect();
        rows.sort_unstable();
        prop_assert_eq!(judged, rows);
    }

    #[test]
    fn every_wanted_file_is_counted_once(world in worlds()) {
        let plan = BuildPlan::new(&world.desired, &world.present);
        let counts = &plan.counts;
        let counted = counts.completed + counts.failed + counts.cancelled + counts.in_progress;
        prop_assert_eq!(usize::try_from(counted).unwrap(), world.desired.len());
    }

    #[test]
    fn the_order_of_the_rows_does_not_matter_where_they_differ(world in worlds()) {
        let mut rows = world.present.clone();
        rows.sort_by_key(|row| (row.file_id, row.external_file_id.clone(), row.strategy.is_some()));
        rows.dedup_by_key(|row| (row.file_id, row.external_file_id.clone(), row.strategy.is_some()));
        let mut reversed = rows.clone();
        reversed.reverse();
        let sorted = |rows: &[PresentFile]| {
            let mut plan = BuildPlan::new(&world.desired, rows);
            plan.held.sort_unstable();
            plan.detach.sort_unstable_by_key(|(id, _)| *id);
            plan
        };
        prop_assert_eq!(sorted(&rows), sorted(&reversed));
    }
}
