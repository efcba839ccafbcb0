//! The body of a file batch. OpenAI ignores the global strategy and attributes when `files` is given, hence what is a file's own
//! goes into `files`, and the short form with `file_ids` is used where nothing is, or all is the same.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::stores::{attach_body, insert_own};
use crate::error::{ErrorKind, ProviderError};
use crate::operation::Operation;
use crate::types::{AttachFile, Capabilities};

pub(super) fn batch_body(files: &[AttachFile], capabilities: &Capabilities) -> Result<Value, ProviderError> {
    let refuse = |message: String| {
        Err(ProviderError::new(
            ErrorKind::InvalidRequest,
            Operation::CreateFileBatch,
            message,
        ))
    };
    let Some(first) = files.first() else {
        return refuse("a batch needs at least one file; nothing was sent".to_owned());
    };
    if files.len() > capabilities.max_batch_files {
        return refuse(format!(
            "{} files are more than the {} a batch takes; nothing was sent",
            files.len(),
            capabilities.max_batch_files
        ));
    }
    let distinct: HashSet<&str> = files.iter().map(|file| file.file_id.as_str()).collect();
    if distinct.len() < files.len() {
        return refuse("a file is in the batch twice; nothing was sent".to_owned());
    }
    let uniform = files
        .iter()
        .all(|file| file.chunking_strategy == first.chunking_strategy && file.attributes == first.attributes);
    if uniform {
        let mut body = Map::new();
        body.insert(
            "file_ids".to_owned(),
            files.iter().map(|file| json!(file.file_id)).collect(),
        );
        insert_own(&mut body, first);
        return Ok(Value::Object(body));
    }
    if !capabilities.batch_per_file_strategy {
        return Err(ProviderError::unsupported(
            Operation::CreateFileBatch,
            "this provider takes no batch of files that differ in strategy or attributes; nothing was sent",
        ));
    }
    Ok(json!({"files": files.iter().map(attach_body).collect::<Vec<_>>()}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::documented_capabilities as capabilities;
    use rag_domain::ChunkingStrategy;

    fn file(id: &str, chunking_strategy: Option<ChunkingStrategy>) -> AttachFile {
        AttachFile {
            file_id: id.to_owned(),
            chunking_strategy,
            ..AttachFile::default()
        }
    }

    #[test]
    fn files_that_differ_are_listed_with_what_is_their_own() {
        let strategy = ChunkingStrategy::fixed(200, 50);
        let files = [file("a", Some(strategy)), file("b", None)];
        let body = batch_body(&files, &capabilities()).unwrap();
        assert_eq!(
            body,
            json!({"files": [{"file_id": "a", "chunking_strategy": strategy.to_value()}, {"file_id": "b"}]})
        );
        let poor = Capabilities {
            batch_per_file_strategy: false,
            ..capabilities()
        };
        assert_eq!(
            batch_body(&files, &poor).unwrap_err().kind,
            ErrorKind::Unsupported
        );
    }

    #[test]
    fn files_that_agree_share_one_strategy() {
        let files = [
            file("a", Some(ChunkingStrategy::AUTO)),
            file("b", Some(ChunkingStrategy::AUTO)),
        ];
        let body = batch_body(&files, &capabilities()).unwrap();
        assert_eq!(
            body,
            json!({"file_ids": ["a", "b"], "chunking_strategy": {"type": "auto"}})
        );
    }

    #[test]
    fn impossible_batches_are_not_sent() {
        let many: Vec<_> = (0..2001).map(|number| file(&number.to_string(), None)).collect();
        for files in [&[][..], &[file("a", None), file("a", None)], &many] {
            let error = batch_body(files, &capabilities()).unwrap_err();
            assert_eq!(error.kind, ErrorKind::InvalidRequest, "{} files", files.len());
        }
    }
}
