//! Harness of the end-to-end tests: real binaries, real HTTP, real MariaDB.
