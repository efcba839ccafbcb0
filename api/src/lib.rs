//! The HTTP API: validates, writes rows and jobs in one transaction, reads state. Never writes to a provider.
