//! What the service manager is told (systemd's `sd_notify`), and whether it is told that all is well: that follows the engine, as
//! `/livez` does. Where there is no service manager, or it does not want to know, nothing is sent.

use std::time::Duration;

use sd_notify::NotifyState;
use server::{Liveness, Models};
use tokio::time::MissedTickBehavior;

/// How often the engine is looked at. A stall is minutes long.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// Requests are taken, or will be at their first use.
pub(crate) fn ready() {
    tell(&[NotifyState::Ready, NotifyState::Status("serving")]);
}

/// The configuration is being read again; [`ready`] says that it is done.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "the service manager cannot be told of the reload"),
    }
}

/// What runs may finish, and then it ends.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("draining")]);
}

/// Looks after the engines for ever: says in the log when one stops getting on, and to the service manager that all do.
pub(crate) async fn watch_over(models: Models) {
    let watchdog = sd_notify::watchdog_enabled();
    // Twice in the time that it is given, as systemd's manual has it.
    let interval = watchdog.map_or(LOOK_INTERVAL, |within| (within / 2).clamp(Duration::from_millis(1), LOOK_INTERVAL));
    let mut clock = tokio::time::interval(interval);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut was_lost = false;
    loop {
        clock.tick().await;
        let (service, liveness) = models.liveness();
        match liveness {
            Liveness::Stalled { since_step } if !was_lost => tracing::error!(
                model = service.id(),
                since_step_s = since_step.as_secs(),
                "the engine is stalled: there is work, and no step has ended; /livez answers 503 until one does"
            ),
            Liveness::Stopped if !was_lost => {
                tracing::error!(
                    model = service.id(),
                    "the engine's thread has ended, so every request fails; /livez answers 503 from now on"
                );
            }
            _ if was_lost && !liveness.is_lost() => tracing::warn!("the engine gets on again; /livez answers 200"),
            _ => {}
        }
        was_lost = liveness.is_lost();
        if watchdog.is_some() && !was_lost {
            tell(&[NotifyState::Watchdog]);
        }
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "the service manager cannot be told");
    }
}
