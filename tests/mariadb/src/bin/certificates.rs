//! `rag-test-certificates FOLDER`: writes `ca.pem`, `server.pem` and `server-key.pem` of a server on this machine
//! (`localhost`, 127.0.0.1), signed by an authority that nobody keeps.

use std::path::PathBuf;
use std::process::ExitCode;

use rag_test_mariadb::Authority;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(folder), None) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: rag-test-certificates FOLDER");
        return ExitCode::FAILURE;
    };
    let folder = PathBuf::from(folder);
    let authority = Authority::new("rag-indexer tests");
    let written = std::fs::create_dir_all(&folder)
        .and_then(|()| authority.write_server_files(&folder, &authority.local_server()));
    match written {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rag-test-certificates: {}: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}
