//! What `push` and `pull` are told of a registry.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use hub::Endpoint;
use registry::{Login, Registries};

use crate::Failure;

#[derive(Debug, Args)]
pub(super) struct RegistryArguments {
    /// File that holds USER:PASSWORD for the registry
    #[arg(long, env = "OUTRIGGER_REGISTRY_LOGIN", value_name = "FILE")]
    login: Option<PathBuf>,

    /// Another server that may be sent the login because it gives out the registry's tokens, by its URL
    #[arg(long, value_name = "URL", requires = "login")]
    token_server: Option<String>,

    /// File of further certificate authorities (PEM) to trust; may be given several times
    #[arg(long = "ca-file", value_name = "FILE")]
    ca_files: Vec<PathBuf>,
}

impl RegistryArguments {
    /// A client, which also trusts the authorities that the configuration names.
    pub(super) fn registries(&self, ca_files: Option<Vec<PathBuf>>) -> Result<Registries, Failure> {
        let login = self.login.as_deref().map(Login::read).transpose().map_err(|error| Failure::usage(error.into()))?;
        let token_server = self.token_server.as_deref().map(Endpoint::parse).transpose();
        let token_server = token_server.context("--token-server").map_err(Failure::usage)?;
        let ca_files: Vec<_> = self.ca_files.iter().cloned().chain(ca_files.into_iter().flatten()).collect();
        Ok(Registries::new(&ca_files, login, token_server).map_err(anyhow::Error::from)?)
    }
}

/// Runs what waits for the network.
pub(super) fn block_on<T>(work: impl Future<Output = T>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Ok(runtime.context("cannot start the runtime")?.block_on(work))
}
