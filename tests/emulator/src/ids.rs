//! Ids in the shape of the provider that is played.

use crate::options::Profile;
use rand::RngExt as _;
use std::sync::Arc;

/// An id of any object; cheap to clone.
pub type Id = Arc<str>;

/// What an id is made for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    File,
    Store,
    Batch,
    Upload,
    Part,
    Request,
}

const ALPHANUMERIC: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const LOWERCASE: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
const HEX: &[u8] = b"0123456789abcdef";

pub(crate) fn new_id(kind: Kind, profile: Profile) -> Id {
    let (prefix, length, alphabet) = match (profile, kind) {
        (_, Kind::Request) => ("req_", 32, HEX),
        (Profile::Yandex, Kind::File | Kind::Store | Kind::Batch) => ("fvt", 17, LOWERCASE),
        (Profile::Ogx | Profile::Litellm, Kind::File) => ("file-", 32, HEX),
        (Profile::Ogx | Profile::Litellm, Kind::Batch) => ("batch_", 32, HEX),
        (_, Kind::File) => ("file-", 22, ALPHANUMERIC),
        (_, Kind::Store) => ("vs_", 32, HEX),
        (_, Kind::Batch) => ("vsfb_", 32, HEX),
        (_, Kind::Upload) => ("upload_", 32, HEX),
        (_, Kind::Part) => ("part_", 32, HEX),
    };
    let mut rng = rand::rng();
    let mut id = String::with_capacity(prefix.len() + length);
    id.push_str(prefix);
    id.extend((0..length).map(|_| char::from(alphabet[rng.random_range(0..alphabet.len())])));
    id.into()
}
