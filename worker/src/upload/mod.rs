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
pub(crate) use outcome::Uploaded;
