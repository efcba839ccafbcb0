//! The OpenAPI document: the descriptions of the routes, and what all of them have in common.
//!
//! Errors that every operation of a group can have (no key, no domain, database away) are added here once instead of at
//! each handler; handlers only name what is special to them.

mod links;
pub(crate) mod schemas;
mod shape;

use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ContentBuilder, HeaderBuilder, InfoBuilder, ObjectBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, Required,
    ResponseBuilder, ServerBuilder, Type,
};
use utoipa::{PartialSchema as _, ToSchema as _};

use crate::http::idempotency;
use crate::http::problem::{FieldError, ProblemBody};
use crate::openapi::schemas::DomainSchema;

/// The documents of the route groups.
pub(crate) struct Groups {
    pub(crate) operations: OpenApi,
    pub(crate) domain: [OpenApi; 2],
    /// Without a domain, but with a key.
    pub(crate) keyed: [OpenApi; 2],
}

const SCHEME: &str = "api_key";

const TAGS: [(&str, &str); 8] = [
    ("files", "Documents: their contents and what is known of them."),
    (
        "indexes",
        "Knowledge bases: which files belong to one, and the state of its indexing.",
    ),
    ("jobs", "Work in the background."),
    (
        "providers",
        "What front ends may know of the vector-store providers. No secrets.",
    ),
    (
        "admin: providers",
        "Connections to providers. Needs an admin key.",
    ),
    (
        "admin: files",
        "Deletions of files that are not done, of all domains. Needs an admin key.",
    ),
    ("admin: keys", "Who may call the API. Needs an admin key."),
    ("operations", "Health and metrics for operators. No key needed."),
];

const DESCRIPTION: &str = "Keeps knowledge bases (indexes of files) and has them indexed at vector-store providers. \
Slow work runs as jobs: such a call answers 202 with the job, and the job's state can be read at any time.\n\n\
Every error is an `application/problem+json` body (RFC 9457) with a stable `type` and the answer's `request_id`. \
Everything of a domain is invisible to other domains: an id of another domain is answered with 404.";

pub(crate) fn assemble(groups: Groups) -> OpenApi {
    let Groups {
        operations,
        domain,
        keyed,
    } = groups;
    let mut document = OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("rag-indexer")
                .version(env!("CARGO_PKG_VERSION"))
                .description(Some(DESCRIPTION))
                .build(),
        )
        .servers(Some([ServerBuilder::new().url("/").build()]))
        .tags(Some(TAGS.map(|(name, text)| {
            utoipa::openapi::tag::TagBuilder::new()
                .name(name)
                .description(Some(text))
                .build()
        })))
        .build();
    for mut group in domain {
        for_each_operation(&mut group, |operation| {
            add_domain_header(operation);
            add_key_errors(operation);
            add(
                operation,
                400,
                "X-Domain-Id, the query string or the body cannot be read",
            );
        });
        document.merge(group);
    }
    for mut group in keyed {
        for_each_operation(&mut group, |operation| {
            add_key_errors(operation);
            if operation.request_body.is_some() {
                add(operation, 400, "The body cannot be read");
            }
        });
        document.merge(group);
    }
    let mut operations = operations;
    for_each_operation(&mut operations, |operation| operation.security = Some(Vec::new()));
    document.merge(operations);
    idempotency::describe(&mut document);
    for_each_operation(&mut document, |operation| {
        if operation.request_body.is_some() {
            add(operation, 413, "The body is too large");
            add(
                operation,
                415,
                "The body's Content-Type is not one that this operation takes",
            );
            add(operation, 422, "Some fields are not valid; `errors` names them");
        }
        add(operation, 500, "An unexpected error, logged with the request id");
        add(
            operation,
            503,
            "Temporarily unavailable; try again after `Retry-After` seconds",
        );
        finish_responses(operation);
    });
    let components = document.components.get_or_insert_default();
    components
        .schemas
        .insert("Problem".to_owned(), ProblemBody::schema());
    components
        .schemas
        .insert(FieldError::name().into_owned(), FieldError::schema());
    components.security_schemes.insert(
        SCHEME.to_owned(),
        SecurityScheme::Http(
            HttpBuilder::new()
                .scheme(HttpAuthScheme::Bearer)
                .description(Some("An API key from `rag-api keys create`"))
                .build(),
        )
        .into(),
    );
    shape::mend(&mut document);
    links::add(&mut document);
    document
}

fn for_each_operation(document: &mut OpenApi, mut change: impl FnMut(&mut Operation)) {
    for item in document.paths.paths.values_mut() {
        let PathItem {
            get,
            put,
            post,
            delete,
            options,
            head,
            patch,
            trace,
            ..
        } = item;
        for operation in [get, put, post, delete, options, head, patch, trace]
            .into_iter()
            .flatten()
        {
            change(operation);
        }
    }
}

fn add_domain_header(operation: &mut Operation) {
    let parameter = ParameterBuilder::new()
        .name("X-Domain-Id")
        .parameter_in(ParameterIn::Header)
        .required(Required::True)
        .description(Some("The domain (tenant) whose data this is about"))
        .schema(Some(DomainSchema::schema()))
        .build();
    operation
        .parameters
        .get_or_insert_default()
        .push(parameter.into());
}

fn add_key_errors(operation: &mut Operation) {
    operation.security = Some(vec![SecurityRequirement::new::<_, [&str; 0], &str>(SCHEME, [])]);
    add(
        operation,
        400,
        "The request holds what this operation does not take, or cannot be read",
    );
    add(operation, 401, "No API key, or not a valid one");
    add(operation, 403, "The API key does not allow this");
    add(
        operation,
        429,
        "The key's rate limit is used up; try again after `Retry-After` seconds",
    );
}

/// Adds an error answer unless the operation describes this status itself.
fn add(operation: &mut Operation, status: u16, description: &str) {
    operation
        .responses
        .responses
        .entry(status.to_string())
        .or_insert_with(|| RefOr::T(ResponseBuilder::new().description(description).build()));
}

/// Every answer carries the request id, and every error the problem body.
fn finish_responses(operation: &mut Operation) {
    for (status, response) in &mut operation.responses.responses {
        let RefOr::T(response) = response else { continue };
        let header = HeaderBuilder::new()
            .schema(Some(ObjectBuilder::new().schema_type(Type::String).build()))
            .description(Some("The request's id, as given or made"))
            .build();
        response.headers.insert("X-Request-Id".to_owned(), header.into());
        if status.starts_with(['4', '5']) {
            let content = ContentBuilder::new()
                .schema(Some(Ref::from_schema_name("Problem")))
                .build();
            response.content.clear();
            response
                .content
                .insert("application/problem+json".to_owned(), content.into());
        }
    }
}
