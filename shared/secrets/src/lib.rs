//! Sealing of provider credentials.
