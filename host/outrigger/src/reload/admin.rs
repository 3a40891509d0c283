//! The admin routes' side of the plugins: what runs as JSON, and a reload on demand.

use std::sync::Arc;

use plugin::{PluginStatus, Plugins};
use serde::Serialize;
use serde_json::{Value, json};
use server::{AdminFuture, PluginAdmin, ReloadRefused};

use super::{Outcome, Refusal, Reloader, Trigger, unix_seconds};

/// What `GET /admin/plugins` answers.
#[derive(Serialize)]
struct State {
    generation: u64,
    published_by: Trigger,
    published_unix_seconds: u64,
    plugins: Vec<ModelPlugin>,
    /// The last reload that failed since.
    last_refusal: Option<Refusal>,
}

/// A plugin of one model's set.
#[derive(Serialize)]
struct ModelPlugin {
    model: String,
    #[serde(flatten)]
    status: PluginStatus,
}

/// [`Reloader`], as the server knows it.
#[derive(Debug, Clone)]
pub(crate) struct Admin(pub(crate) Arc<Reloader>);

impl PluginAdmin for Admin {
    fn plugins(&self) -> Option<Value> {
        let running = self.0.running.borrow().clone()?;
        let of_model = |(model, plugins): &(String, Arc<Plugins>)| {
            let all = plugins.status().into_iter();
            all.map(|status| ModelPlugin { model: model.clone(), status }).collect::<Vec<_>>()
        };
        let state = State {
            generation: running.generation,
            published_by: running.published_by,
            published_unix_seconds: unix_seconds(running.published_at),
            plugins: running.sets.iter().flat_map(of_model).collect(),
            last_refusal: running.refusal.clone(),
        };
        Some(serde_json::to_value(state).expect("texts and numbers are JSON"))
    }

    fn reload(&self) -> AdminFuture<'_> {
        Box::pin(async move {
            match &*self.0.reload(Trigger::Admin).await {
                Outcome::Published => Ok(self.plugins().unwrap_or_default()),
                Outcome::NotLoaded => Err(ReloadRefused::NotLoaded),
                Outcome::Refused { message, reports } => {
                    let running = self.0.running.borrow().as_ref().map(|running| running.generation);
                    let report = json!({ "generation": running, "plugins": reports });
                    Err(ReloadRefused::Plugins { message: message.clone(), report })
                }
            }
        })
    }
}
