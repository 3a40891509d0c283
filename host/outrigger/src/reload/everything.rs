//! SIGHUP: the whole configuration is read again. What can change does, all of it or nothing; a change that takes a restart is
//! refused by its name, and with it the rest.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{bail, ensure};
use server::Models;
use tokio::signal::unix::Signal;

use super::{Outcome, Reloader, Trigger};
use crate::cli::SettingsArguments;
use crate::config::{Said, Settings};
use crate::doors::{Credentials, Doors};
use crate::{service_manager, wiring};

/// Everything that a new configuration may change.
pub(crate) struct Everything {
    pub(crate) arguments: SettingsArguments,
    /// What is in force.
    pub(crate) said: Mutex<Said>,
    pub(crate) doors: Arc<Doors>,
    pub(crate) models: Models,
    pub(crate) plugins: Arc<Reloader>,
}

impl Everything {
    /// Reloads at every SIGHUP, for ever.
    pub(crate) async fn on_hangup(self, mut hangup: Signal) {
        while hangup.recv().await.is_some() {
            service_manager::reloading();
            match self.reload().await {
                Ok(()) => tracing::info!("the configuration was read again"),
                Err(error) => tracing::error!("the configuration stays as it was: {error:#}"),
            }
            if self.models.has_started() {
                service_manager::ready();
            }
        }
    }

    async fn reload(&self) -> anyhow::Result<()> {
        let said = self.arguments.said.clone().or_file(self.arguments.config.as_deref())?;
        let settings = Settings::from_said(said.clone())?;
        let changed = said.needs_restart(&self.said.lock().unwrap_or_else(PoisonError::into_inner));
        ensure!(
            changed.is_empty(),
            "`{}` cannot change while the server runs; this needs a restart",
            changed.join("`, `")
        );
        let speaks_tls = settings.listen.tls.is_some();
        ensure!(
            speaks_tls == self.doors.speak_tls(),
            "TLS cannot be turned {} while the server runs (`tls_cert_file`); this needs a restart",
            if speaks_tls { "on" } else { "off" }
        );
        let listen = settings.listen.clone();
        let credentials = tokio::task::spawn_blocking(move || Credentials::read(&listen)).await??;
        self.reload_plugins().await?;
        // Nothing of this fails.
        for service in self.models.iter() {
            if let Some(model) = settings.models.iter().find(|model| model.id == service.id()) {
                service.set_limits(&wiring::service_config(&settings, model));
            }
        }
        self.doors.replace(&settings, credentials).await;
        *self.said.lock().unwrap_or_else(PoisonError::into_inner) = said;
        Ok(())
    }

    /// Replaces the plugins, now or, where the model is on its way, as soon as it is there.
    async fn reload_plugins(&self) -> anyhow::Result<()> {
        if !self.plugins.has_started() {
            let plugins = Arc::clone(&self.plugins);
            tokio::spawn(async move {
                plugins.is_started().await;
                plugins.reload(Trigger::Signal).await;
            });
            return Ok(());
        }
        match &*self.plugins.reload(Trigger::Signal).await {
            Outcome::Refused { message, .. } => bail!("{message}"),
            Outcome::Published | Outcome::NotLoaded => Ok(()),
        }
    }
}
