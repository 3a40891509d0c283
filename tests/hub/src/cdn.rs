//! The CDN: bytes for a signature, and for nothing else. It refuses a token, so that any leak fails loudly.

use crate::answer::Answer;
use crate::api::is_unchanged;
use crate::refusal::xml;
use crate::request::Request;
use crate::state::State;

pub(crate) fn answer(state: &State, request: &Request) -> Answer {
    if request.header("authorization").is_some() {
        let message = "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query \
                       string parameter or the Authorization header should be specified";
        return xml(400, "InvalidArgument", message);
    }
    let Some(grant) = state.grant(request).filter(|grant| !grant.is_expired()) else {
        return xml(403, "AccessDenied", "Access denied");
    };
    let range = request.header("range").filter(|_| is_unchanged(request, &grant.etag));
    // The object's own tag, 64 hexadecimal digits that are not the SHA-256 of the content.
    Answer::content(&grant.content, "application/octet-stream", range)
        .with("ETag", grant.etag)
        .with("X-Cache", "Miss from cloudfront")
        .with("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
}
