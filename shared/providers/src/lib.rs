//! One contract for vector-store providers, the wire client of the OpenAI protocol, and the adapters over it.
