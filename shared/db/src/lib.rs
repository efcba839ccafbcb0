//! One module per table: rows in, domain types out; every transition is one conditional UPDATE.
