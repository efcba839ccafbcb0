//! One file's copy at the provider, for builds and for uploads without an index.
//!
//! | module | what |
//! |---|---|
//! | `copy` | one file: uploads it, unless the provider has its present contents |
//! | `declare` | what is about to be uploaded, many files in one transaction |
//! | `send`, `source` | one declared upload, and the contents that are sent |
//! | `outcome` | what uploads came to, in rows |
//! | `job` | the upload of one file without an index |

mod copy;
mod declare;
pub(crate) mod job;
mod outcome;
mod send;
mod source;

pub(crate) use declare::{Declaration, declare};
pub(crate) use outcome::{Uploaded, record};
pub(crate) use send::{Ended, Sent, send, send_inherited};
