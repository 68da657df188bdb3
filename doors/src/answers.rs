//! How requests may be refused, as the descriptions of all doors (OpenAPI) say it: written once, since any address may
//! answer these. A description of its own for one of the statuses stands after them and takes their place.

use std::collections::BTreeMap;

use utoipa::IntoResponses;
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder};

type Responses = BTreeMap<String, RefOr<Response>>;

const BAD_REQUEST: (u16, &str) = (400, "A parameter, header or field is missing or wrong");
const UNKNOWN_CLIENT: (u16, &str) = (401, "No credentials, or wrong ones");
const FORBIDDEN: (u16, &str) = (403, "Not with these credentials, or not from pages of this origin");
const TOO_LARGE: (u16, &str) = (413, "Larger than allowed");
const TOO_OFTEN: (u16, &str) = (429, "More requests than allowed, or as many of something as there may be");
const UNAVAILABLE: (u16, &str) =
    (503, "Switched off, full, stopping, or something that it needs is out of reach; try again later");

/// How an address that wants to know who asks may refuse a request.
#[derive(Debug)]
pub struct Refusals;

impl IntoResponses for Refusals {
    fn responses() -> Responses {
        described(&[BAD_REQUEST, UNKNOWN_CLIENT, FORBIDDEN, TOO_OFTEN, UNAVAILABLE])
    }
}

/// How an address that takes a body may refuse a request: [`Refusals`], and bodies that are too large.
#[derive(Debug)]
pub struct BodyRefusals;

impl IntoResponses for BodyRefusals {
    fn responses() -> Responses {
        let mut responses = Refusals::responses();
        responses.extend(described(&[TOO_LARGE]));
        responses
    }
}

/// How an address that everybody may ask refuses: who asks too often.
#[derive(Debug)]
pub struct TooOften;

impl IntoResponses for TooOften {
    fn responses() -> Responses {
        described(&[TOO_OFTEN])
    }
}

/// Each with the body of every error.
fn described(table: &[(u16, &str)]) -> Responses {
    let describe = |&(status, text): &(u16, &str)| {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("ErrorAnswer"))).build();
        let response = ResponseBuilder::new().description(text).content("application/json", content).build();
        (status.to_string(), response.into())
    };
    table.iter().map(describe).collect()
}
