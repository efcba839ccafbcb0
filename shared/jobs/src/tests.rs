//! Names, keys and attempts of every kind, and payloads of older versions.

use std::collections::BTreeSet;

use rag_domain::{DomainId, FileId, IndexId};

use crate::*;

const LIMITS: JobLimits = JobLimits {
    build_max_attempts: 8,
};
const INDEX: &str = "0c0ab1c6-9a6b-4b7c-8a2a-111111111111";
const FILE: &str = "0c0ab1c6-9a6b-4b7c-8a2a-222222222222";

fn index_id() -> IndexId {
    INDEX.parse().unwrap()
}

fn file_id() -> FileId {
    FILE.parse().unwrap()
}

fn domain_id() -> DomainId {
    DomainId::try_from("tenant-1".to_owned()).unwrap()
}

/// Unique key, index to take turns on, domain, attempts.
fn policy<J: JobSpec>(job: &J) -> (Option<String>, Option<IndexId>, Option<String>, u32) {
    job.to_job(LIMITS).unwrap();
    (
        job.is_unique().then(|| job.unique_key()),
        job.works_on(),
        job.domain_id().map(ToString::to_string),
        J::ATTEMPTS.number(LIMITS),
    )
}

#[test]
fn every_kind_has_a_name_of_its_own() {
    let names: BTreeSet<_> = KINDS.iter().collect();
    assert_eq!(names.len(), KINDS.len());
}

#[test]
fn jobs_of_an_index_take_turns_and_belong_to_its_domain() {
    let (index_id, domain_id) = (index_id(), domain_id());
    let of_index = |key: &str, attempts| {
        let key = Some(format!("{key}:{INDEX}"));
        (key, Some(index_id), Some("tenant-1".to_owned()), attempts)
    };
    let build = IndexBuild {
        index_id,
        domain_id: domain_id.clone(),
        recreate: true,
        force_upload: true,
    };
    assert_eq!(policy(&build), of_index("index_build", 8));
    assert!(build.unique_key().starts_with(&IndexBuild::unique_key_prefix()));
    let delete = IndexDelete {
        index_id,
        domain_id: domain_id.clone(),
    };
    assert_eq!(policy(&delete), of_index("index_delete", 1_000_000));
    let delete_store = IndexStoreDelete {
        index_id,
        domain_id: domain_id.clone(),
        external_id: Some("vs_1".to_owned()),
    };
    assert_eq!(policy(&delete_store), of_index("index_store_delete", 1_000_000));
    let cancel = IndexCancel {
        index_id,
        domain_id: domain_id.clone(),
    };
    assert_eq!(policy(&cancel), of_index("index_cancel", 3));
    let sync = IndexSync {
        index_id,
        domain_id: domain_id.clone(),
        keep_gone: true,
    };
    assert_eq!(policy(&sync), of_index("index_sync", 3));
    let detach = FileDetach {
        index_id,
        file_id: file_id(),
        domain_id,
    };
    let (key, turns, domain, attempts) = policy(&detach);
    assert_eq!(key, Some(format!("file_detach:{INDEX}:{FILE}")));
    assert_eq!((turns, attempts), (Some(index_id), 1_000_000));
    assert_eq!(domain.as_deref(), Some("tenant-1"));
}

#[test]
fn jobs_of_files_and_domains_wait_for_no_index() {
    let domain = || Some("tenant-1".to_owned());
    let upload = FileUpload {
        file_id: file_id(),
        domain_id: domain_id(),
        provider_type: "openai".to_owned(),
    };
    let key = Some(format!("file_upload:openai:{FILE}"));
    assert_eq!(policy(&upload), (key, None, domain(), 8));
    let delete = FileDelete {
        file_id: file_id(),
        domain_id: domain_id(),
    };
    let key = Some(format!("file_delete:{FILE}"));
    assert_eq!(policy(&delete), (key, None, domain(), 1_000_000));
    let sync = |provider_type: Option<&str>| DomainSync {
        domain_id: domain_id(),
        provider_type: provider_type.map(str::to_owned),
        force: false,
    };
    let key = |provider: &str| Some(format!("domain_sync:{provider}:tenant-1"));
    assert_eq!(policy(&sync(None)), (key("*"), None, domain(), 10));
    assert_eq!(policy(&sync(Some("openai"))), (key("openai"), None, domain(), 10));
}

#[test]
fn jobs_of_a_provider_belong_to_nobody() {
    let provider_type = "openai".to_owned();
    let of_provider = |key: &str, attempts| (Some(key.to_owned()), None, None, attempts);
    let sync = |dry_run| ProviderSync {
        provider_type: provider_type.clone(),
        dry_run,
        strict: true,
        force: true,
        compare: Compare::Full,
    };
    assert_eq!(policy(&sync(false)), of_provider("provider_sync:openai", 10));
    assert_eq!(
        policy(&sync(true)),
        of_provider("provider_sync:openai:report", 10)
    );
    let probe = ProviderProbe {
        provider_type: provider_type.clone(),
    };
    assert_eq!(policy(&probe), of_provider("provider_probe:openai", 3));
    let search = |mode, confirmed_files| OrphanReconcile {
        provider_type: provider_type.clone(),
        mode,
        confirmed_files,
    };
    let report = search(OrphanMode::Report, Vec::new());
    assert_eq!(policy(&report), of_provider("orphan_reconcile:openai:report", 10));
    let delete = search(OrphanMode::Delete, Vec::new());
    assert_eq!(policy(&delete), of_provider("orphan_reconcile:openai:delete", 10));
    let confirming = search(OrphanMode::Delete, vec!["file-1".to_owned()]);
    assert_eq!(policy(&confirming), (None, None, None, 10));
}

#[test]
fn payloads_of_older_versions_are_read() {
    let old = serde_json::json!({"index_id": INDEX, "domain_id": "0"});
    let job: IndexBuild = serde_json::from_value(old).unwrap();
    assert_eq!(
        (job.index_id, job.recreate, job.force_upload),
        (index_id(), false, false)
    );
    let old =
        serde_json::json!({"provider_type": "openai", "dry_run": true, "strict": false, "force": false});
    let job: ProviderSync = serde_json::from_value(old).unwrap();
    assert_eq!((job.dry_run, job.compare), (true, Compare::Full));
}
