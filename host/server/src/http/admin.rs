//! `/admin/plugins`: what runs, and a reload on demand. Only for programs on this machine.
//!
//! What is asked here changes what every request meets, so beside the checks of every request (`guard`) the connection must have
//! arrived at a loopback address, whatever else is listened on, and a reload must be JSON, which no page can post unasked.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde_json::{Map, Value};

use super::guard;
use super::routes::{App, ArrivedAt, json};
use super::status::Failure;
use crate::admin::{PluginAdmin, ReloadRefused};
use crate::wire::ErrorBody;

pub(super) async fn plugins(
    State(app): State<Arc<App>>,
    arrived_at: Option<Extension<ArrivedAt>>,
) -> Result<Response, Failure> {
    let admin = admin(&app, arrived_at)?;
    admin.plugins().map(|state| json(&state)).ok_or_else(|| Failure::from(&ReloadRefused::NotLoaded))
}

pub(super) async fn reload(
    State(app): State<Arc<App>>,
    arrived_at: Option<Extension<ArrivedAt>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let admin = admin(&app, arrived_at)?;
    guard::check_is_json(&headers)?;
    let body = app.bodies.read(&headers, body).await?;
    // Nothing can be said yet. Whoever says something is told, rather than wondering why it has no effect.
    let is_empty = serde_json::from_slice::<Map<String, Value>>(&body.bytes).is_ok_and(|members| members.is_empty());
    if !body.bytes.is_empty() && !is_empty {
        let message = "a reload takes no parameters; send `{}` or no body";
        return Err(Failure::client(StatusCode::BAD_REQUEST, "invalid_body", message));
    }
    match admin.reload().await {
        Ok(state) => Ok(json(&state)),
        Err(refused) => {
            let failure = Failure::from(&refused);
            let ReloadRefused::Plugins { report: Value::Object(report), .. } = refused else { return Err(failure) };
            let answer = RefusedBody { error: &failure.body, report };
            Ok((failure.status, json(&answer)).into_response())
        }
    }
}

/// The error as everywhere, and beside it what was found out.
#[derive(Serialize)]
struct RefusedBody<'a> {
    #[serde(flatten)]
    error: &'a ErrorBody,
    #[serde(flatten)]
    report: Map<String, Value>,
}

fn admin(app: &App, arrived_at: Option<Extension<ArrivedAt>>) -> Result<&dyn PluginAdmin, Failure> {
    let Some(admin) = &app.config.admin else {
        let message = "the admin routes are turned off (`admin = false`)";
        return Err(Failure::client(StatusCode::NOT_FOUND, "not_found", message));
    };
    guard::check_is_local(arrived_at.map(|Extension(at)| at), "the admin routes answer")?;
    Ok(&**admin)
}
