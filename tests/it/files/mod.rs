//! Contents under `FILES_ROOT`: unreadable, damaged, left over, and a disk that is full.

mod full_disk;
mod stored_contents;
mod sweep;
