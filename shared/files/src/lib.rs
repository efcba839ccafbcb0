//! File contents below FILES_ROOT: streamed in, hashed on the way, streamed out.
