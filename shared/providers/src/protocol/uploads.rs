//! Large files, through `/uploads`: open an upload, send its parts one after the other, complete it. Until it is completed
//! there is no file, so whatever fails before has no effect; what is left behind expires by itself (after an hour at OpenAI),
//! and is cancelled if possible. When the answer to the completion is lost, cancelling tells what became of it: an upload that
//! could be cancelled has made no file, and never will.

use serde_json::{Value, json};
use tracing::debug;

use super::decode::{Expected, is_id, not_an_id, object};
use super::files::check_size;
use super::provider::OpenAiClient;
use crate::error::{Effect, ErrorKind, ProviderError};
use crate::http::{Call, Digest, MultipartFile, Taken};
use crate::operation::Operation;
use crate::types::{FileUpload, ProviderFile};

const OPERATION: Operation = Operation::UploadFile;

impl OpenAiClient {
    pub(super) async fn upload_in_parts(&self, upload: FileUpload) -> Result<ProviderFile, ProviderError> {
        let upload_id = self.open_upload(&upload).await.map_err(without_effect)?;
        let part_ids = match self.send_parts(&upload_id, &upload).await {
            Ok(part_ids) => part_ids,
            Err(error) => {
                self.cancel_upload(&upload_id).await;
                return Err(without_effect(error));
            }
        };
        match self
            .complete_upload(&upload_id, part_ids, upload.size_bytes)
            .await
        {
            Err(error) if error.effect == Effect::Unknown && self.cancel_upload(&upload_id).await => {
                Err(without_effect(error))
            }
            result => result,
        }
    }

    async fn open_upload(&self, upload: &FileUpload) -> Result<String, ProviderError> {
        let call = Call::post(OPERATION, &["uploads"])?.repeatable().json(json!({
            "filename": upload.file_name,
            "purpose": self.profile.purpose,
            "bytes": upload.size_bytes,
            "mime_type": (self.profile.content_type)(upload),
        }));
        let answer = self.transport.json(&call).await?;
        id_of(&answer.value, "upload")
    }

    async fn send_parts(&self, upload_id: &str, upload: &FileUpload) -> Result<Vec<String>, ProviderError> {
        let part_bytes = self.profile.capabilities.max_upload_part_bytes.max(1);
        let mut part_ids = Vec::new();
        let mut offset = 0;
        let mut digest = Digest::of_whole(upload.sha256.clone());
        while offset < upload.size_bytes {
            let size_bytes = part_bytes.min(upload.size_bytes - offset);
            // A part that is not named in the completion does not exist, so it may be sent twice.
            let call = Call::post(OPERATION, &["uploads", upload_id, "parts"])?
                .repeatable()
                .own_text(&upload.file_name);
            let part = MultipartFile {
                fields: Vec::new(),
                file_field: "data",
                file_name: "part".to_owned(),
                content_type: "application/octet-stream".to_owned(),
                source: upload.body.clone(),
                offset,
                size_bytes,
                to_the_end: offset + size_bytes == upload.size_bytes,
                digest: digest.clone(),
            };
            let Taken { answer, failure } = self.transport.upload(&call, &part).await?;
            if let Some(failure) = failure {
                return Err(failure);
            }
            digest = part.digest.next();
            part_ids.push(id_of(&answer.value, "upload.part")?);
            offset += size_bytes;
        }
        Ok(part_ids)
    }

    async fn complete_upload(
        &self,
        upload_id: &str,
        part_ids: Vec<String>,
        size_bytes: u64,
    ) -> Result<ProviderFile, ProviderError> {
        let call =
            Call::post(OPERATION, &["uploads", upload_id, "complete"])?.json(json!({"part_ids": part_ids}));
        let answer = self.transport.json(&call).await?;
        let expected = Expected::new(OPERATION);
        if answer.value.get("status").and_then(Value::as_str) != Some("completed") {
            return Err(expected.protocol_error("the upload was completed, but does not say so"));
        }
        let Some(file) = answer.value.get("file").filter(|file| file.is_object()) else {
            return Err(expected
                .protocol_error("the upload is completed, but its file is not named")
                .with_effect(Effect::Done));
        };
        check_size(object(file.clone(), expected)?, size_bytes)
    }

    /// Whether the provider says that the upload is cancelled now.
    async fn cancel_upload(&self, upload_id: &str) -> bool {
        let Ok(call) = Call::post(OPERATION, &["uploads", upload_id, "cancel"]) else {
            return false;
        };
        match self.transport.json(&call).await {
            Ok(answer) => answer.value.get("status").and_then(Value::as_str) == Some("cancelled"),
            Err(error) => {
                debug!(%error, upload_id, "an abandoned upload could not be cancelled; it will expire");
                false
            }
        }
    }
}

fn without_effect(error: ProviderError) -> ProviderError {
    error.with_effect(Effect::None)
}

fn id_of(value: &Value, word: &str) -> Result<String, ProviderError> {
    let own_word = value.get("object").and_then(Value::as_str);
    match value.get("id").and_then(Value::as_str) {
        Some(id) if !is_id(id) => Err(Expected::new(OPERATION).protocol_error(not_an_id(word, id))),
        Some(id) if own_word.is_none_or(|own| own == word) => Ok(id.to_owned()),
        _ => Err(ProviderError::new(
            ErrorKind::Protocol,
            OPERATION,
            format!("the answer is not an {word}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use rag_emulator::{Action, Emulator, Rule, When};
    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::connection::{ConnectionConfig, Credentials};
    use crate::contract::Provider as _;
    use crate::protocol::{HealthProbe, Profile, bearer_transport, documented_capabilities};
    use crate::types::{BytesSource, Capabilities};

    /// A client that takes a kilobyte for a large file.
    fn client(base_url: &str, key: &str) -> OpenAiClient {
        rag_canary::watch_logs();
        let mut config = ConnectionConfig::new("openai", "api_key");
        config.base_url = Some(base_url.to_owned());
        config.credentials = Some(Credentials::api_key(key));
        config.network.allow_http_loopback = true;
        let profile = Profile {
            provider_type: "openai",
            capabilities: Capabilities {
                max_simple_upload_bytes: 1024,
                max_upload_part_bytes: 1000,
                ..documented_capabilities()
            },
            purpose: "assistants",
            content_type: crate::protocol::content_type_by_name,
            health: HealthProbe::Models,
            content_404_without_body: ErrorKind::NotFound,
        };
        OpenAiClient::new(bearer_transport(config, None, "openai").unwrap(), profile)
    }

    fn sha256(text: &[u8]) -> String {
        hex::encode(Sha256::digest(text))
    }

    async fn three_parts_make_a_file(client: &OpenAiClient) -> (ProviderFile, Bytes) {
        let text = Bytes::from("A lighthouse stands on a rock. ".repeat(80));
        let upload = FileUpload {
            file_name: "large.txt".to_owned(),
            content_type: None,
            size_bytes: text.len() as u64,
            sha256: Some(sha256(&text)),
            body: Arc::new(BytesSource(text.clone())),
        };
        let file = client.upload_file(upload).await.unwrap();
        assert_eq!(file.size_bytes, text.len() as u64);
        (file, text)
    }

    #[tokio::test]
    async fn the_parts_are_put_together_in_order() {
        let emulator = Emulator::builder()
            .api_key("sk-c4n4ry-parts-0123456789")
            .allow_content()
            .start()
            .await
            .unwrap();
        let client = client(&emulator.url(), "sk-c4n4ry-parts-0123456789");
        let (file, text) = three_parts_make_a_file(&client).await;
        let content = client.file_content(&file.id).await.unwrap();
        let pieces: Vec<Bytes> = futures::TryStreamExt::try_collect(content.stream).await.unwrap();
        assert_eq!(pieces.concat(), text);
    }

    /// What became of a completion whose answer was lost.
    #[tokio::test]
    async fn an_upload_that_could_be_cancelled_made_no_file() {
        for (after_effect, effect) in [(false, Effect::None), (true, Effect::Unknown)] {
            let emulator = Emulator::builder()
                .api_key("sk-c4n4ry-parts-0123456789")
                .start()
                .await
                .unwrap();
            let when = When {
                operation: Some("uploads.complete".to_owned()),
                ..When::default()
            };
            let then = Action::Respond {
                status: 504,
                headers: std::collections::BTreeMap::default(),
                body: None,
                text: None,
                after_effect,
            };
            emulator.control().add_fault(Rule { when, then }).unwrap();
            let client = client(&emulator.url(), "sk-c4n4ry-parts-0123456789");
            let text = Bytes::from("A lighthouse stands on a rock. ".repeat(80));
            let upload = FileUpload {
                file_name: "large.txt".to_owned(),
                content_type: None,
                size_bytes: text.len() as u64,
                sha256: None,
                body: Arc::new(BytesSource(text)),
            };
            let error = client.upload_file(upload).await.unwrap_err();
            assert_eq!(error.effect, effect, "{error}");
            let files = emulator.control().state().files.len();
            assert_eq!(files, usize::from(after_effect));
        }
    }

    #[tokio::test]
    async fn parts_of_other_bytes_never_become_a_file() {
        let emulator = Emulator::builder()
            .api_key("sk-c4n4ry-parts-0123456789")
            .start()
            .await
            .unwrap();
        let client = client(&emulator.url(), "sk-c4n4ry-parts-0123456789");
        let text = Bytes::from("A lighthouse stands on a rock. ".repeat(80));
        let upload = FileUpload {
            file_name: "large.txt".to_owned(),
            content_type: None,
            size_bytes: text.len() as u64,
            sha256: Some(sha256(b"what it was")),
            body: Arc::new(BytesSource(text)),
        };
        let error = client.upload_file(upload).await.unwrap_err();
        assert_eq!(
            (error.kind, error.effect),
            (ErrorKind::LocalCorruption, Effect::None),
            "{error}"
        );
        assert!(emulator.control().state().files.is_empty());
    }

    /// As `live` of this crate's tests, which has no way to a client with such small parts.
    #[tokio::test]
    #[ignore = "needs a server: RAG_LIVE_BASE_URL and RAG_LIVE_API_KEY"]
    async fn live_parts_are_understood() {
        let setting = |name: &str| std::env::var(name).unwrap();
        let client = client(&setting("RAG_LIVE_BASE_URL"), &setting("RAG_LIVE_API_KEY"));
        let (file, _) = three_parts_make_a_file(&client).await;
        assert!(client.delete_file(&file.id).await.unwrap().existed);
    }
}
