//! SQL for applications that read the active job of a unique key together with rows of their own, in one statement. Nobody
//! else names the queue's columns.

/// The parts of a join that finds the job that holds a unique key, if one does. The kind goes between the first two parts,
/// the unique key between the last two. A kind and a key may be bound values or expressions.
pub const JOIN: [&str; 3] = [
    "LEFT JOIN queue_unique_keys AS holder ON holder.kind = ",
    " AND holder.unique_key = ",
    " LEFT JOIN queue_jobs AS held ON held.id = holder.job_id",
];

/// The job's id, 16 bytes; NULL: no active job has the key.
pub const JOB_ID: &str = "holder.job_id";

/// The columns that change whenever anything changes that a caller sees of the job.
pub const VERSION: &str = "held.state, held.order_us, held.claim_no, held.attempts, held.snoozes, held.lease_losses, \
     held.cancel_requested";
