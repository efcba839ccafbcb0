//! Sealing of provider credentials for the JSON columns of the database.
//!
//! [`Keyring`] seals with its first key and opens with any. An envelope is bound to the provider and the column it was sealed
//! for, so a row's secrets are worthless in another row. Envelopes of the service's predecessor open too.
//! What is deliberately absent: the database, and any idea of what the plaintext means.

mod envelope;
mod error;
mod key;
mod keyring;
mod legacy;

pub use error::{KeyringError, SecretsError};
pub use keyring::Keyring;
pub use zeroize::Zeroizing;
