//! The calls of the contract, by name.

use std::fmt;

/// Declares the calls: each with its word, and whether it changes anything at the provider.
macro_rules! operations {
    ($($(#[$meta:meta])* $variant:ident = $word:literal $kind:ident,)+) => {
        /// A call of the contract; names the span, the metric label and the error.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Operation {
            $($(#[$meta])* $variant,)+
        }

        impl Operation {
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }

            /// Whether the call changes anything at the provider. (A search is a POST and changes nothing.)
            pub fn is_write(self) -> bool {
                match self {
                    $(Self::$variant => operations!(@$kind),)+
                }
            }
        }
    };
    (@read) => { false };
    (@write) => { true };
}

operations! {
    CreateVectorStore = "create_vector_store" write,
    ListVectorStores = "list_vector_stores" read,
    GetVectorStore = "get_vector_store" read,
    UpdateVectorStore = "update_vector_store" write,
    DeleteVectorStore = "delete_vector_store" write,
    SearchVectorStore = "search_vector_store" read,
    UploadFile = "upload_file" write,
    ListFiles = "list_files" read,
    GetFile = "get_file" read,
    FileContent = "file_content" read,
    UpdateFile = "update_file" write,
    DeleteFile = "delete_file" write,
    AttachFile = "attach_file" write,
    GetStoreFile = "get_store_file" read,
    ListStoreFiles = "list_store_files" read,
    UpdateStoreFileAttributes = "update_store_file_attributes" write,
    StoreFileContent = "store_file_content" read,
    DetachFile = "detach_file" write,
    CreateFileBatch = "create_file_batch" write,
    GetFileBatch = "get_file_batch" read,
    CancelFileBatch = "cancel_file_batch" write,
    ListFileBatchFiles = "list_file_batch_files" read,
    Health = "health" read,
    /// Getting or refreshing an access token, on behalf of another call.
    Authenticate = "authenticate" read,
    /// Building the client of a connection; nothing was sent.
    Connect = "connect" read,
}

impl Operation {
    /// Whether the call brings something to the provider that takes room or costs there. The others (reads, changes,
    /// deletions) go on when an account is exhausted.
    pub fn brings_something(self) -> bool {
        matches!(
            self,
            Self::CreateVectorStore | Self::UploadFile | Self::AttachFile | Self::CreateFileBatch
        )
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
