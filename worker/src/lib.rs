//! The worker: runs the jobs that the API enqueued, and is the only program that changes anything at a provider.
