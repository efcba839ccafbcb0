use std::collections::HashSet;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{AttachedFile, AttachedRow, AttachmentId, AttachmentState, FileReport};

const IDS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

/// A file of ours, wherever it is.
#[derive(Debug, Clone)]
struct World {
    id: &'static str,
    file_id: FileId,
    is_known: bool,
    is_deleted: bool,
    is_listed: bool,
    /// Its link; whether a build has had a chance at it.
    link: Option<bool>,
    row: Option<AttachmentState>,
    reported: Option<Value>,
}

fn listed(world: &[World]) -> Vec<ListedFile<'static>> {
    let file = |file: &World| ListedFile {
        file_id: file.id,
        store_file_id: file.id,
        report: FileReport {
            state: AttachmentState::Completed,
            strategy: file.reported.clone(),
            usage_bytes: Some(1),
            error_code: None,
            last_error: None,
        },
    };
    world.iter().filter(|file| file.is_listed).map(file).collect()
}

fn known(world: &[World]) -> Vec<Option<KnownFile<'static>>> {
    let known = |file: &World| {
        file.is_known.then_some(KnownFile {
            file_id: file.file_id,
            upload: Some(file.id),
            strategy: None,
            is_deleted: file.is_deleted,
        })
    };
    world.iter().filter(|file| file.is_listed).map(known).collect()
}

fn rows(world: &[World]) -> (Vec<AttachedRow<'static>>, Vec<RowOwner>) {
    let with_row = world.iter().filter_map(|file| Some((file, file.row?)));
    with_row
        .map(|(file, state)| {
            let row = AttachedRow {
                file: AttachedFile {
                    attachment: AttachmentId::new(),
                    file_id: file.id.to_owned(),
                    store_file_id: file.id.to_owned(),
                    state,
                },
                report: FileReport {
                    state,
                    strategy: file.reported.clone(),
                    usage_bytes: Some(1),
                    error_code: None,
                    last_error: None,
                },
                is_missed: false,
            };
            let owner = RowOwner {
                file_id: file.file_id,
                has_left: false,
            };
            (row, owner)
        })
        .unzip()
}

fn plan(world: &[World], strict: bool, is_proven: bool) -> (StorePlan, IndexDiff) {
    let (listed, known, (rows, owners)) = (listed(world), known(world), rows(world));
    let left: HashSet<AttachmentId> = rows
        .iter()
        .filter(|_| is_proven)
        .map(|row| row.file.attachment)
        .collect();
    let diff = IndexDiff::new(&rows, &listed, &left);
    let link = |file: &World| {
        Some(LinkedFile {
            file_id: file.file_id,
            strategy: None,
            was_built: file.link?,
        })
    };
    let links: Vec<_> = world.iter().filter_map(link).collect();
    let view = StoreView {
        listed: &listed,
        known: &known,
        rows: &owners,
        diff: &diff,
        links: &links,
        index_strategy: None,
        strict,
    };
    (StorePlan::new(&view), diff)
}

/// As a sync writes it.
fn apply(world: &[World], plan: &StorePlan, diff: &IndexDiff) -> Vec<World> {
    let listed: Vec<_> = world
        .iter()
        .filter(|file| file.is_listed)
        .map(|file| file.id)
        .collect();
    let with_row: Vec<_> = world
        .iter()
        .filter(|file| file.row.is_some())
        .map(|file| file.id)
        .collect();
    let mut world = world.to_vec();
    for file in &mut world {
        if diff.missing.iter().any(|at| with_row[*at] == file.id) {
            file.row = None;
        }
        if diff.corrections.iter().any(|(at, _)| with_row[*at] == file.id)
            || plan.attach.iter().any(|new| listed[new.listed] == file.id)
        {
            file.row = Some(AttachmentState::Completed);
        }
        if plan.links.iter().any(|new| new.file_id == file.file_id) {
            file.link = Some(false);
        }
        if plan.unlink.contains(&file.file_id) {
            file.link = None;
        }
    }
    world
}

fn file(id: &'static str) -> World {
    World {
        id,
        file_id: FileId::new(),
        is_known: true,
        is_deleted: false,
        is_listed: true,
        link: None,
        row: None,
        reported: None,
    }
}

#[test]
fn a_file_that_others_attached_is_taken_over_with_its_strategy() {
    let strategy = ChunkingStrategy::fixed(400, 100);
    let world = [World {
        reported: Some(strategy.to_value()),
        ..file("a")
    }];
    let (plan, _) = plan(&world, false, true);
    assert_eq!(plan.links[0].strategy, Some(strategy));
    assert_eq!(
        (plan.attach[0].file_id, plan.attach[0].strategy),
        (world[0].file_id, Some(strategy))
    );
}

/// What can't be compared is no difference, in a sync as in a build.
#[test]
fn a_strategy_that_is_reported_as_other_is_unknown() {
    let listed = [ListedFile {
        report: FileReport {
            strategy: Some(json!({"type": "other"})),
            ..listed(&[file("a")])[0].report.clone()
        },
        file_id: "a",
        store_file_id: "a",
    }];
    let wanted = ChunkingStrategy::fixed(400, 100);
    let known = [Some(KnownFile {
        file_id: FileId::new(),
        upload: None,
        strategy: Some(wanted),
        is_deleted: false,
    })];
    let diff = IndexDiff::new(&[], &listed, &HashSet::new());
    let plan = StorePlan::new(&StoreView {
        listed: &listed,
        known: &known,
        rows: &[],
        diff: &diff,
        links: &[],
        index_strategy: None,
        strict: false,
    });
    assert_eq!(plan.attach[0].strategy, Some(wanted));
    assert_eq!(plan.links[0].strategy, None, "the file's own wish stands");
}

#[test]
fn a_link_that_no_build_has_carried_out_is_kept_in_strict_mode() {
    let new = World {
        is_listed: false,
        link: Some(false),
        ..file("new")
    };
    let old = World {
        is_listed: false,
        link: Some(true),
        ..file("old")
    };
    let world = [new, old];
    assert_eq!(plan(&world, true, true).0.unlink, [world[1].file_id]);
    assert!(plan(&world, false, true).0.unlink.is_empty());
}

fn worlds() -> impl Strategy<Value = Vec<World>> {
    use AttachmentState::{Completed, Detaching, Failed, InProgress};
    let row = prop::option::of(prop::sample::select(vec![
        Completed, InProgress, Failed, Detaching,
    ]));
    let reported = prop::sample::select(vec![
        None,
        Some(json!({"type": "other"})),
        Some(ChunkingStrategy::AUTO.to_value()),
        Some(ChunkingStrategy::fixed(200, 0).to_value()),
    ]);
    let one = (any::<[bool; 3]>(), prop::option::of(any::<bool>()), row, reported);
    prop::collection::vec(one, 0..IDS.len()).prop_map(|files| {
        let files = IDS.into_iter().zip(files);
        files
            .map(
                |(id, ([is_known, is_deleted, is_listed], link, row, reported))| World {
                    is_known: is_known || row.is_some() || link.is_some(),
                    is_deleted,
                    is_listed,
                    link,
                    row,
                    reported,
                    ..file(id)
                },
            )
            .collect()
    })
}

proptest! {
    #[test]
    fn a_second_plan_after_the_first_was_applied_is_empty(world in worlds(), strict: bool) {
        let (first, diff) = plan(&world, strict, true);
        let after = apply(&world, &first, &diff);
        let (second, _) = plan(&after, strict, true);
        prop_assert_eq!(second, StorePlan::default());
    }

    #[test]
    fn without_proof_no_file_that_has_a_row_is_removed(world in worlds(), strict: bool) {
        let (plan, diff) = plan(&world, strict, false);
        prop_assert!(diff.missing.is_empty());
        for file in world.iter().filter(|file| file.row.is_some()) {
            prop_assert!(!plan.unlink.contains(&file.file_id));
        }
    }

    #[test]
    fn only_known_files_without_a_row_are_attached(world in worlds(), strict: bool) {
        let (plan, _) = plan(&world, strict, true);
        for new in &plan.attach {
            let file = world.iter().find(|file| file.file_id == new.file_id).unwrap();
            prop_assert!(file.is_listed && file.is_known && !file.is_deleted && file.row.is_none());
        }
    }

    #[test]
    fn the_order_of_the_listing_changes_nothing_but_the_order_of_links(world in worlds(), strict: bool) {
        let mut reversed = world.clone();
        reversed.reverse();
        let sorted = |world: &[World]| {
            let (plan, _) = plan(world, strict, true);
            let mut attach: Vec<_> = plan.attach.iter().map(|new| (new.file_id, new.strategy.map(ChunkingStrategy::to_value))).map(|(id, strategy)| format!("{id} {strategy:?}")).collect();
            let mut links: Vec<_> = plan.links.iter().map(|new| format!("{} {:?}", new.file_id, new.strategy)).collect();
            let mut unlink: Vec<_> = plan.unlink.iter().map(ToString::to_string).collect();
            attach.sort_unstable();
            links.sort_unstable();
            unlink.sort_unstable();
            (attach, links, unlink, plan.removed)
        };
        prop_assert_eq!(sorted(&world), sorted(&reversed));
    }
}
