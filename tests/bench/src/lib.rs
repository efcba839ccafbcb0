//! What several benchmarks need: built programs and what they use, and figures in documents.

pub mod figures;
pub mod programs;
