//! Downloading and replacing the contents of a file.

use std::io;

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use futures::{StreamExt as _, TryStreamExt as _};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rag_db::files::{self, File, NewContent};
use rag_domain::{DomainId, FileId};
use rag_files::{Contents, Corrupted, FilesError, Pieces, SaveError, Saved};
use uuid::Uuid;

use super::FileOut;
use super::media_type::media_type;
use super::quota::{self, Change, Room};
use super::range::{self, Part, Requested};
use crate::http::extract::{Domain, Id};
use crate::http::problem::{Kind, Problem};
use crate::http::upload::{Pace, least_rate, paced};
use crate::openapi::schemas::{Bytes, SomeBytes};
use crate::state::App;

/// The worker counts them under the same name.
const CORRUPTIONS: &str = "rag_file_corruptions_total";
/// How often a download retries if the contents are replaced just before it opens them.
const OPEN_TIMES: u32 = 10;
/// RFC 8187: everything but `attr-char` is encoded.
const NOT_ATTR_CHAR: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'.')
    .remove(b'-')
    .remove(b'_')
    .remove(b'~');

/// Download a file's contents
///
/// `ETag` is the SHA-256 of the contents; with a matching `If-None-Match` the answer is 304 without a body. With
/// `Range: bytes=…` of one range the answer is that part (206), unless `If-Range` names other contents; several ranges at
/// once are answered with the whole.
#[utoipa::path(get, path = "/files/{file_id}/download", tag = "files",
    params(
        ("file_id" = uuid::Uuid, Path, description = "The file"),
        ("If-None-Match" = Option<String>, Header, description = "An ETag that the client has already"),
        ("Range" = Option<String>, Header, description = "`bytes=0-499`, `bytes=500-` or `bytes=-500`"),
        ("If-Range" = Option<String>, Header, description = "The ETag of the contents that the range is meant for"),
    ),
    responses(
        (status = 200, description = "The contents, in the file's own type",
            content((inline(Bytes) = "application/octet-stream"), (inline(Bytes) = "*/*")), headers(
                ("ETag" = String, description = "SHA-256 of the contents, quoted"),
                ("Accept-Ranges" = String, description = "bytes"),
                ("Content-Disposition" = String, description = "attachment, with the file's name"))),
        (status = 206, description = "The part that was asked for",
            content((inline(Bytes) = "application/octet-stream"), (inline(Bytes) = "*/*")), headers(
            ("ETag" = String, description = "SHA-256 of the whole contents, quoted"),
            ("Content-Range" = String, description = "bytes first-last/size"))),
        (status = 304, description = "The client has them already"),
        (status = 404, description = "No such file in this domain"),
        (status = 409, description = "The contents were replaced again and again while they were to be opened"),
        (status = 416, description = "The range lies behind the end; `Content-Range` has the size",
            headers(("Content-Range" = String, description = "bytes */size"))),
    ))]
pub(super) async fn download_file(
    State(app): State<App>,
    Domain(domain): Domain,
    Id(file_id): Id<FileId>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let file = files::get(&mut *app.connection().await?, &domain, file_id).await?;
    let etag = format!("\"{}\"", file.sha256);
    if headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .any(|tags| names(tags, &etag))
    {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, etag)]).into_response());
    }
    let (file, contents) = open(&app, &domain, file).await?;
    let etag = format!("\"{}\"", file.sha256);
    let length = contents.size_bytes();
    if length != file.size_bytes {
        let detail = "the stored contents do not have the file's size";
        damaged(&file, "corrupted", detail);
        return Err(Problem::new(Kind::Internal, detail));
    }
    let part = match range::requested(&headers, length, &etag) {
        Requested::Whole => None,
        Requested::Part(part) => Some(part),
        Requested::Unsatisfiable => {
            let problem = Problem::new(Kind::RangeNotSatisfiable, format!("the file has {length} bytes"));
            return Ok(([(header::CONTENT_RANGE, format!("bytes */{length}"))], problem).into_response());
        }
    };
    let file_type = HeaderValue::try_from(file.file_type.as_str())
        .unwrap_or(HeaderValue::from_static("application/octet-stream"));
    let headers: [(HeaderName, HeaderValue); 6] = [
        (header::ACCEPT_RANGES, HeaderValue::from_static("bytes")),
        (header::CONTENT_TYPE, file_type),
        (header::CONTENT_LENGTH, part.map_or(length, Part::length).into()),
        (
            header::ETAG,
            HeaderValue::try_from(etag).map_err(Problem::internal)?,
        ),
        (
            header::CONTENT_DISPOSITION,
            HeaderValue::try_from(disposition(&file.file_name)).map_err(Problem::internal)?,
        ),
        // The uploader chose the type: browsers must not guess another.
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
    ];
    let Some(part) = part else {
        let pieces = contents.verified(&file.sha256).await.map_err(Problem::internal)?;
        return Ok((headers, Body::from_stream(watched(pieces, file))).into_response());
    };
    let pieces = contents.part(part.first, part.length()).await;
    let body = Body::from_stream(pieces.map_err(Problem::internal)?);
    let content_range = [(header::CONTENT_RANGE, part.content_range(length))];
    Ok((StatusCode::PARTIAL_CONTENT, headers, content_range, body).into_response())
}

/// Opens the contents that the file's row names. If they were replaced or deleted after the row was read, they are missing, and
/// reading the row again tells so. Once open, they can be read to their end.
async fn open(app: &App, domain: &DomainId, mut file: File) -> Result<(File, Contents), Problem> {
    for _ in 0..OPEN_TIMES {
        let missing = match app.files.open(&file.local_path).await {
            Ok(contents) => return Ok((file, contents)),
            Err(error @ FilesError::NotFound(_)) => error,
            Err(error) => return Err(error.into()),
        };
        let now = files::get(&mut *app.connection().await?, domain, file.id).await?;
        if now.local_path == file.local_path {
            damaged(&file, "missing", &missing.to_string());
            return Err(missing.into());
        }
        file = now;
    }
    Err(Problem::conflict(
        "the contents are replaced again and again at the moment; try again",
    ))
}

/// Records damage that is found while reading: the body then ends before its last piece, because it is too late for a status.
fn watched(pieces: Pieces, file: File) -> Pieces {
    pieces
        .inspect_err(move |error: &io::Error| {
            if let Some(corrupted) = error
                .get_ref()
                .and_then(|error| error.downcast_ref::<Corrupted>())
            {
                damaged(&file, "corrupted", &corrupted.to_string());
            }
        })
        .boxed()
}

fn damaged(file: &File, code: &'static str, error: &str) {
    metrics::counter!(CORRUPTIONS, "met_by" => "download", "code" => code).increment(1);
    tracing::error!(file.id = %file.id, path = file.local_path, error, "stored contents are damaged");
}

/// Replace a file's contents
///
/// The body is the new contents as they are (`curl -T new.pdf …`), with any Content-Type but a form's. Name, tags and
/// strategy stay. Indexes that hold the file get the change with their next build. Equal contents change nothing, unless
/// the stored ones are damaged: then they are repaired.
#[utoipa::path(put, path = "/files/{file_id}/content", tag = "files",
    params(("file_id" = uuid::Uuid, Path, description = "The file")),
    request_body(content = inline(SomeBytes), content_type = "application/octet-stream"),
    responses(
        (status = 200, description = "The file with its new contents", body = FileOut),
        (status = 404, description = "No such file in this domain"),
        (status = 408, description = "The upload stalled, or was slower than it may be"),
        (status = 413, description = "The file is too large, or the domain would store more than it may \
            (`bytes-quota-exceeded`)"),
        (status = 507, description = "The server's storage is full"),
    ))]
pub(super) async fn replace_content(
    State(app): State<App>,
    Domain(domain): Domain,
    Id(file_id): Id<FileId>,
    request: Request,
) -> Result<Json<FileOut>, Problem> {
    let content_type = request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    if content_type.is_some_and(|value| value.trim_start().to_ascii_lowercase().starts_with("multipart/")) {
        return Err(Problem::new(
            Kind::UnsupportedMediaType,
            "send the contents themselves as the body, not a form",
        ));
    }
    // Checked before the transfer, so that no caller sends half a gigabyte for a file that does not exist.
    let file = files::get(&mut *app.connection().await?, &domain, file_id).await?;
    let change = Change {
        old_bytes: file.size_bytes,
        ..Change::default()
    };
    let room = Room::of(&app, &domain, request.headers(), 0, change).await?;
    let least = least_rate(&app.settings.api);
    let body = paced(request.into_body(), least, Pace::default()).map_err(Problem::from);
    let mut saved = app
        .files
        .save(
            domain.as_str(),
            Uuid::from(file_id),
            &file.file_name,
            body,
            room.bytes,
        )
        .await
        .map_err(|error| not_saved(error, room))?;

    if saved.size_bytes == 0 {
        // An empty body is more likely an accident than an empty document.
        return Err(Problem::invalid_field("body", "is empty"));
    }

    let mends = file.sha256 == saved.sha256 && is_damaged(&app, &file).await?;
    let mut tx = app.begin().await?;
    let old = files::lock(&mut tx, &domain, file_id).await?;
    if old.sha256 == saved.sha256 && !(mends && old.local_path == file.local_path) {
        return Ok(Json(old.into()));
    }
    let change = Change {
        new_files: 0,
        new_bytes: saved.size_bytes,
        old_bytes: old.size_bytes,
    };
    quota::admit(&app, &mut tx, &domain, change).await?;
    let content = NewContent {
        file_type: media_type(&old.file_name, &saved.head),
        size_bytes: saved.size_bytes,
        sha256: saved.sha256.clone(),
        local_path: saved.relative_path.clone(),
    };
    files::replace_content(&mut tx, &domain, file_id, &content).await?;
    let file = files::get(&mut tx, &domain, file_id).await?;
    if let Err(error) = tx.commit().await {
        discard_if_unreferenced(&app, &domain, file_id, &mut saved).await;
        return Err(error.into());
    }
    saved.keep();
    if let Err(error) = app.files.delete(&old.local_path).await {
        tracing::warn!(file.id = %file_id, path = old.local_path, %error, "replaced contents were left behind");
    }
    Ok(Json(file.into()))
}

/// Whether what lies on disk is not what the row says.
async fn is_damaged(app: &App, file: &File) -> Result<bool, Problem> {
    match app.files.sha256(&file.local_path).await {
        Ok(found) => Ok(found != file.sha256),
        Err(FilesError::NotFound(_) | FilesError::InvalidPath(_)) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Why contents were not stored, with the limit that they exceed.
pub(super) fn not_saved<E: Into<Problem>>(error: SaveError<E>, room: Room) -> Problem {
    match error {
        SaveError::TooLarge { .. } => room.exceeded(),
        SaveError::Source(error) => error.into(),
        SaveError::Files(error) => error.into(),
    }
}

/// After a write that failed, perhaps only in its answer: keeps the contents unless the database says that no row
/// names them. Lost disk space is better than a row without its contents.
pub(super) async fn discard_if_unreferenced(app: &App, domain: &DomainId, id: FileId, saved: &mut Saved) {
    let named = match app.db.acquire().await {
        Ok(mut connection) => files::find(&mut connection, domain, id).await.ok(),
        Err(_) => None,
    };
    match named {
        Some(row)
            if row
                .as_ref()
                .is_none_or(|row| row.local_path != saved.relative_path) => {}
        Some(_) => saved.keep(),
        None => {
            tracing::warn!(file.id = %id, path = saved.relative_path, "contents were kept: it is not known whether a row names them");
            saved.keep();
        }
    }
}

fn names(tags: &HeaderValue, etag: &str) -> bool {
    let tags = tags.to_str().unwrap_or_default();
    tags.split(',')
        .map(str::trim)
        .any(|tag| tag == "*" || tag.trim_start_matches("W/") == etag)
}

/// RFC 6266: an ASCII name for old clients, the real name in UTF-8 for the others. `headers::ContentDisposition` has no
/// `filename*`.
fn disposition(file_name: &str) -> String {
    let plain: String = file_name
        .chars()
        .map(|c| {
            if (c.is_ascii_graphic() || c == ' ') && !matches!(c, '"' | '\\' | '%') {
                c
            } else {
                '_'
            }
        })
        .collect();
    format!(
        "attachment; filename=\"{plain}\"; filename*=UTF-8''{}",
        utf8_percent_encode(file_name, NOT_ATTR_CHAR)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_out_of_the_header() {
        assert_eq!(
            disposition("a b.pdf"),
            "attachment; filename=\"a b.pdf\"; filename*=UTF-8''a%20b.pdf"
        );
        assert_eq!(
            disposition("a\";x=\"\r\nб.txt"),
            "attachment; filename=\"a_;x=____.txt\"; filename*=UTF-8''a%22%3Bx%3D%22%0D%0A%D0%B1.txt"
        );
    }

    #[test]
    fn etags_match_by_list_weakness_and_star() {
        let value = HeaderValue::from_static;
        assert!(names(&value("\"x\", W/\"abc\""), "\"abc\""));
        assert!(names(&value("*"), "\"abc\""));
        assert!(!names(&value("\"abcd\""), "\"abc\""));
    }
}
