//! OpenAPI links: from each 201 and 202, and from each list, to the operations that take the id. People, clients and
//! API testers follow them from call to call.

use utoipa::openapi::link::LinkBuilder;
use utoipa::openapi::path::{Operation, ParameterIn};
use utoipa::openapi::{Content, OpenApi, Ref, RefOr, Response};

use super::for_each_operation;

/// Schemas whose `id` is this parameter of paths.
const ENTITIES: [(&str, &str); 5] = [
    ("File", "file_id"),
    ("Index", "index_id"),
    ("Job", "job_id"),
    ("MadeKey", "key_id"),
    ("FileUpload", "upload_id"),
];

const DOMAIN: &str = "X-Domain-Id";

struct Target {
    operation_id: String,
    parameters: Vec<String>,
}

pub(super) fn add(document: &mut OpenApi) {
    let mut targets = Vec::new();
    for_each_operation(document, |operation| {
        targets.extend(operation.operation_id.clone().map(|operation_id| Target {
            operation_id,
            parameters: parameters(operation),
        }));
    });
    for_each_operation(document, |operation| {
        let own = parameters(operation);
        for status in ["200", "201", "202"] {
            if let Some(RefOr::T(response)) = operation.responses.responses.get_mut(status) {
                add_to(status, response, &own, &targets);
            }
        }
    });
}

/// Those of the path, and the domain.
fn parameters(operation: &Operation) -> Vec<String> {
    let parameters = operation.parameters.iter().flatten();
    let parameters = parameters.filter_map(|parameter| match parameter {
        RefOr::T(parameter) => Some(parameter),
        RefOr::Ref(_) => None,
    });
    parameters
        .filter(|parameter| parameter.parameter_in == ParameterIn::Path || parameter.name == DOMAIN)
        .map(|parameter| parameter.name.clone())
        .collect()
}

/// The parameter of paths that takes the id of what this answer has made, or of the first of a list, and where the id is.
fn id_of(status: &str, response: &Response) -> Option<(&'static str, &'static str)> {
    response.content.values().find_map(|content| {
        let RefOr::T(Content {
            schema: Some(RefOr::Ref(Ref { ref_location, .. })),
            ..
        }) = content
        else {
            return None;
        };
        let schema = ref_location.rsplit('/').next()?;
        let (schema, location) = match schema.strip_prefix("Page_") {
            Some(schema) => (schema, "$response.body#/items/0/id"),
            None if status == "200" => return None,
            None => (schema, "$response.body#/id"),
        };
        let mut entities = ENTITIES.into_iter();
        entities.find_map(|(name, parameter)| (name == schema).then_some((parameter, location)))
    })
}

fn add_to(status: &str, response: &mut Response, own: &[String], targets: &[Target]) {
    let Some((id, location)) = id_of(status, response) else {
        return;
    };
    for target in targets {
        let takes = |name: &str| target.parameters.iter().any(|parameter| parameter == name);
        let knows_domain = own.iter().any(|own| own == DOMAIN);
        // What an admin makes is no domain's, as far as the call tells.
        if !takes(id) || (takes(DOMAIN) && !knows_domain) {
            continue;
        }
        let mut link = LinkBuilder::new().operation_id(&target.operation_id);
        for parameter in &target.parameters {
            link = match parameter.as_str() {
                name if name == id => link.parameter(format!("path.{name}"), location),
                DOMAIN => link.parameter("header.X-Domain-Id", "$request.header.X-Domain-Id"),
                name if own.iter().any(|own| own == name) => {
                    link.parameter(format!("path.{name}"), format!("$request.path.{name}"))
                }
                _ => link,
            };
        }
        response
            .links
            .insert(target.operation_id.clone(), RefOr::T(link.build()));
    }
}
