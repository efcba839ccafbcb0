//! One file's copy at the provider, for builds and for uploads without an index.
//!
//! | module | what |
//! |---|---|
//! | `copy` | uploads a file, unless the provider has its present contents |
//! | `source` | the contents that are sent |
//! | `outcome` | what an upload came to, in rows |
//! | `job` | the upload of one file without an index |

mod copy;
pub(crate) mod job;
mod outcome;
mod source;

pub(crate) use copy::ensure;

/// What became of one file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Uploaded {
    /// The provider has it.
    Yes,
    /// It never will: the row says why, and the build goes on with the other files.
    Failed,
    /// Another job is at it.
    Busy,
    /// Not begun, because the build stops or the file is gone.
    Skipped,
}
