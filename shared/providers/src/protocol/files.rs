//! Uploads in one request, and the choice between one request and many.

use super::decode::{Expected, object};
use super::provider::OpenAiClient;
use crate::contract::Provider as _;
use crate::error::{Effect, ErrorKind, ProviderError};
use crate::http::{Call, Digest, MultipartFile, Taken};
use crate::operation::Operation;
use crate::types::{FileUpload, ProviderFile};

impl OpenAiClient {
    pub(super) async fn upload(&self, upload: FileUpload) -> Result<ProviderFile, ProviderError> {
        let capabilities = &self.profile.capabilities;
        if upload.size_bytes > capabilities.max_file_bytes {
            return Err(ProviderError::new(
                ErrorKind::TooLarge,
                Operation::UploadFile,
                format!(
                    "the file has {} bytes, this provider takes {}; nothing was sent",
                    upload.size_bytes, capabilities.max_file_bytes
                ),
            ));
        }
        if upload.size_bytes > capabilities.max_simple_upload_bytes && capabilities.uploads_api {
            return self.upload_in_parts(upload).await;
        }
        let call = Call::post(Operation::UploadFile, &["files"])?.own_text(&upload.file_name);
        let file = MultipartFile {
            fields: vec![("purpose", self.profile.purpose.to_owned())],
            file_field: "file",
            content_type: (self.profile.content_type)(&upload),
            file_name: upload.file_name,
            source: upload.body,
            offset: 0,
            size_bytes: upload.size_bytes,
            to_the_end: true,
            digest: Digest::of_whole(upload.sha256),
        };
        let Taken { answer, failure } = self.transport.upload(&call, &file).await?;
        let uploaded: ProviderFile = object(answer.value, Expected::new(Operation::UploadFile))?;
        match failure {
            None => check_size(uploaded, file.size_bytes),
            Some(failure) => Err(self.take_back(&uploaded.id, failure).await),
        }
    }

    /// The provider made a file of bytes that were cut short: it goes again.
    async fn take_back(&self, file_id: &str, failure: ProviderError) -> ProviderError {
        match self.delete_file(file_id).await {
            Ok(_) => failure,
            Err(error) => {
                tracing::warn!(file_id, %error, "a file of wrong bytes could not be deleted at the provider");
                failure.with_effect(Effect::Unknown)
            }
        }
    }
}

/// A provider that counted other bytes than were sent has stored something else. The file is there, hence effect `Done`.
pub(super) fn check_size(file: ProviderFile, sent_bytes: u64) -> Result<ProviderFile, ProviderError> {
    let counted = file.raw.get("bytes").and_then(serde_json::Value::as_u64);
    match counted {
        Some(counted) if counted != sent_bytes => Err(ProviderError::new(
            ErrorKind::Protocol,
            Operation::UploadFile,
            format!(
                "the provider stored {counted} of {sent_bytes} bytes as file {}",
                file.id
            ),
        )
        .with_effect(crate::error::Effect::Done)),
        _ => Ok(file),
    }
}
