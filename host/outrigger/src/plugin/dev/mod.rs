//! `outrigger plugin dev`: a plugin's sources and a running host, kept in step.

mod changes;
mod place;
mod stage;

use std::path::{Path, PathBuf};
use std::thread;

use anyhow::Context as _;
use clap::Args;
use kit::Project;
use kit::suite::Options;

use super::test::run_cases;
use super::{config_of, reload};
use crate::cli::{Serve, SettingsArguments};
use crate::config::Settings;
use crate::{Failure, console, serve};
use changes::Changes;
use stage::Staged;

/// Ways by chance to cut an answer: it is tried at every change, and `outrigger plugin test` tries more.
const RANDOM_CHUNKINGS: u32 = 20;

#[derive(Debug, Args)]
#[command(after_help = "\
Whenever a file of the folder changes, the plugin is built and its cases are run (the language's own tests are not: `outrigger plugin
test` runs both); if all is well, it takes over in the host, without a
restart: requests that run keep the plugin that they began with. What does not build, fails its cases or does not load changes
nothing: the version before goes on, and the terminal says why.

By default a host is started here, with this plugin and what its plugin.toml asks for:
  outrigger plugin dev . --model file:model.gguf

With --host, one that runs already is asked to reload; its configuration names this folder (from = \"…\"):
  outrigger plugin dev . --host http://127.0.0.1:8484

All flags of `outrigger serve` are taken but --plugin, and all of a configuration but its [[plugin]] tables.")]
pub(super) struct Dev {
    /// The plugin's folder, with its plugin.toml
    #[arg(value_name = "DIR", default_value = ".")]
    dir: PathBuf,

    /// Tell this host to reload instead of starting one
    #[arg(long, value_name = "URL")]
    host: Option<String>,

    /// The plugin's configuration, as a JSON object
    #[arg(long, value_name = "JSON", conflicts_with = "host")]
    plugin_config: Option<String>,

    #[command(flatten)]
    settings: SettingsArguments,
}

pub(super) fn dev(Dev { dir, host, plugin_config, settings }: Dev) -> Result<(), Failure> {
    // A folder without a manifest is a mistake, not a plugin that is not finished yet.
    Project::open(&dir).map_err(|error| Failure::usage(error.into()))?;
    let dir = dir.canonicalize().with_context(|| format!("cannot read {}", dir.display()))?;
    let config = config_of(plugin_config.as_deref())?;
    let mut changes = Changes::of(&dir);
    if let Some(host) = host {
        loop {
            attempt(&dir, |_| {
                let generation = reload::reload(&host)?;
                console::say(format_args!("{host} runs it: generation {generation} of its plugins"));
                Ok(())
            });
            wait(&mut changes, &dir);
        }
    }
    // Held here: what a thread holds is not dropped when the process ends.
    let folder = place::Place::new(&std::env::temp_dir())?;
    let staged = Staged::new(folder.path(), config);
    // The host starts with the first version that works.
    while !attempt(&dir, |project| staged.publish(project)) {
        wait(&mut changes, &dir);
    }
    let settings = staged.settings(settings).map_err(Failure::usage)?;
    console::say(format_args!("{}", how_to_try(&settings)));
    thread::Builder::new()
        .name("plugin-dev".to_owned())
        .spawn(move || {
            loop {
                wait(&mut changes, &dir);
                attempt(&dir, |project| staged.publish(project));
            }
        })
        .context("cannot start a thread")?;
    let served = serve::serve(Serve { settings });
    drop(folder);
    served
}

/// Waits for a change, and says what it was: where it is none of the author's, this is how they hear of it.
fn wait(changes: &mut Changes, dir: &Path) {
    let files = changes.wait();
    console::say(format_args!("{} changed", changes::shown(dir, &files)));
}

/// Builds, tries and publishes; what goes wrong is told, and changes nothing. Whether it went well.
fn attempt(dir: &Path, publish: impl FnOnce(&Project) -> anyhow::Result<()>) -> bool {
    let attempted = || -> anyhow::Result<()> {
        let project = Project::open(dir)?;
        let built = project.build()?;
        if built.untouched_by.is_some() {
            console::say(built);
        }
        let spec = project.spec()?;
        let command = format!("outrigger plugin test {}", dir.display());
        let options = Options { random: RANDOM_CHUNKINGS, command, ..Options::default() };
        let tally = run_cases(&spec, &project.cases(), &options, false)?;
        anyhow::ensure!(tally.failed == 0, "{} of the cases failed", tally.failed);
        publish(&project)
    };
    match attempted() {
        Ok(()) => true,
        Err(error) => {
            console::say(format_args!("not taken over: {error:#}\nwaiting for a change in {}", dir.display()));
            false
        }
    }
}

/// The line that shows the plugin at work.
fn how_to_try(settings: &SettingsArguments) -> String {
    let listen = settings.said.listen.iter().flatten().find(|place| !place.starts_with("unix:"));
    let listen = listen.map_or("127.0.0.1:8484", String::as_str);
    format!(
        "starting a host with it; when it is ready, try it, change a file, and try it again:\n\n  \
         curl http://{listen}/v1/chat/completions -H 'content-type: application/json' -d '{{\"model\": \"{}\", \"messages\": \
         [{{\"role\": \"user\", \"content\": \"Hello!\"}}]}}'\n",
        Settings::from_said(settings.said.clone()).map_or_else(|_| String::new(), |it| it.models[0].id.clone()),
    )
}
