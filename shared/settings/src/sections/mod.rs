//! The sections: one struct per concern. A field is declared together with its variable's name, default, range and help;
//! the struct, the function that reads it, and every list of settings come from that one line.
//!
//! By a macro of our own: clap's `env`, figment and confique all stop at the first wrong variable, and their errors quote
//! values, secrets included.

mod api;
mod providers;
mod storage;
mod telemetry;
mod worker;

pub use api::{ApiAuth, ApiSettings};
pub use providers::{ProviderSettings, SyncSettings};
pub use storage::{DatabaseSettings, FilesSettings, QueueSettings};
pub use telemetry::{LogFormat, TelemetrySettings};
pub use worker::WorkerSettings;

/// `read` answers `None` if a value is missing or invalid; the reader has then noted which.
macro_rules! section {
    (
        $(#[$meta:meta])*
        $name:ident in $section:literal {
            $($(#[$field_meta:meta])* $field:ident: $type:ty = $typed:expr,)+
        }
        $(where $low:ident <= $high:ident)?
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $type,)+
        }

        impl $name {
            pub(crate) fn read(reader: &mut $crate::reader::Reader<'_>) -> Option<Self> {
                $(let $field = reader.read(&Self::$field());)+
                $(if let (Some(low), Some(high)) = (&$low, &$high)
                    && low > high
                {
                    let message = format!("is larger than {}", Self::$high().setting.name);
                    reader.refuse(Self::$low().setting.name, message);
                })?
                Some(Self { $($field: $field?,)+ })
            }

            $(fn $field() -> $crate::setting::Typed<$type> {
                $typed.in_section($section)
            })+
        }
    };
}
use section;
