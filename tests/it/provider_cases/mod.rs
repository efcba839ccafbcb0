//! The end-to-end cases that every provider of the protocol must pass: once here at the emulator in each profile, and by
//! `cargo xtask providers` at real servers (`real_servers`). A case asks the server's own API what became of it and never
//! looks into the emulator, so that it means the same everywhere.

mod cases;
mod probing;
mod real_servers;
mod server;
mod site;

pub(crate) use cases::*;
pub(crate) use probing::{Probe, table};
pub(crate) use server::{RealServer, Server};
pub(crate) use site::Site;

/// Makes a test of each case at `$site`, with these attributes.
macro_rules! every_case {
    (@each $site:expr, $attributes:tt, $($case:ident)*) => {
        $( $crate::provider_cases::every_case! { @one $site, $attributes, $case } )*
    };
    (@one $site:expr, [$($attribute:meta)*], $case:ident) => {
        $(#[$attribute])*
        #[tokio::test]
        async fn $case() {
            let site = $site.await;
            $crate::provider_cases::$case(&site).await;
            site.leave_nothing().await;
        }
    };
    ($site:expr $(, #[$attribute:meta])*) => {
        $crate::provider_cases::every_case! { @each $site, [$($attribute)*],
            a_probe_tells_what_the_server_can_do
            mixed_strategies_end_right_and_a_rebuild_changes_nothing
            changed_bytes_take_the_place_of_the_old_ones
            an_unlinked_file_leaves
            two_indexes_share_a_file
            a_file_that_cannot_be_read_fails_with_its_reason
            search_finds_local_files
            syncs_of_index_and_provider_see_no_drift
            a_file_and_an_index_are_deleted
            a_cancelled_build_goes_on_where_it_was
            a_killed_worker_is_replaced
        }
    };
}
pub(crate) use every_case;

mod openai {
    super::every_case! { super::Site::emulated(rag_emulator::Profile::Openai) }
}

mod ogx {
    super::every_case! { super::Site::emulated(rag_emulator::Profile::Ogx) }
}

mod litellm {
    super::every_case! { super::Site::emulated(rag_emulator::Profile::Litellm) }
}

/// The document's tables were made at real servers; the emulator's profiles answer as they say.
#[tokio::test]
async fn profiles_answer_as_the_real_servers_did() {
    use rag_emulator::Profile;
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/providers.md");
    let document = std::fs::read_to_string(document).unwrap();
    let seen = async |profile| Site::emulated(profile).await.probe().ask().await;
    let (openai, ogx, litellm) =
        tokio::join!(seen(Profile::Openai), seen(Profile::Ogx), seen(Profile::Litellm));
    for (name, seen) in [("ogx", ogx), ("litellm", litellm)] {
        let marker = format!("<!-- generated: {name} -->\n");
        let (_, rest) = document.split_once(&marker).unwrap();
        let (written, _) = rest.split_once("<!-- end").unwrap();
        assert_eq!(written, table(&openai, &seen), "{name}");
    }
}
