//! The models of a host, and which of them a request means.

use std::sync::Arc;

use telemetry::Metrics;

use crate::service::{ChatError, Defaults, Liveness, Readiness, Service};

/// Every model that is served, loaded or not: a service for each. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Models {
    services: Arc<[Arc<Service>]>,
}

impl Models {
    /// The models, in the order in which they are listed.
    ///
    /// # Panics
    ///
    /// Where there is none, or two have one name.
    #[must_use]
    pub fn new(services: Vec<Arc<Service>>) -> Self {
        assert!(!services.is_empty(), "a host serves at least one model");
        for (place, service) in services.iter().enumerate() {
            assert!(
                services[..place].iter().all(|other| other.id() != service.id()),
                "two models are `{}`",
                service.id()
            );
        }
        Self { services: services.into() }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.iter()
    }

    /// The only one, where there is no other.
    pub(crate) fn only(&self) -> Option<&Arc<Service>> {
        match &*self.services {
            [only] => Some(only),
            _ => None,
        }
    }

    /// The model of this name.
    pub(crate) fn of(&self, name: &str) -> Result<&Arc<Service>, ChatError> {
        let found = self.services.iter().find(|service| service.id() == name);
        found.ok_or_else(|| ChatError::ModelNotFound { model: name.to_owned(), served: self.names() })
    }

    /// The model of this name, or the only one where none is named.
    pub(crate) fn of_or_only(&self, name: Option<&str>) -> Result<&Arc<Service>, ChatError> {
        match name {
            Some(name) => self.of(name),
            None => self.only().ok_or_else(|| ChatError::ModelNotNamed { served: self.names() }),
        }
    }

    /// Their names, as an error lists them between backquotes.
    fn names(&self) -> String {
        self.services.iter().map(|service| service.id()).collect::<Vec<_>>().join("`, `")
    }

    /// Whether requests are answered now. Of several models those count that are loaded at the start; why one of them is not
    /// there is told with its name.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        if let Some(only) = self.only() {
            return only.readiness();
        }
        let counted = self.services.iter().filter(|service| service.is_loaded_at_start());
        let (mut failed, mut loading) = (Vec::new(), Vec::new());
        for service in counted {
            match service.readiness() {
                Readiness::Failed(reason) => failed.push(format!("{}: {reason}", service.id())),
                Readiness::Loading(progress) => loading.push(format!("{}: {progress}", service.id())),
                Readiness::OnFirstUse | Readiness::Ready | Readiness::Draining => {}
            }
        }
        match (failed.is_empty(), loading.is_empty()) {
            _ if self.services[0].is_draining() => Readiness::Draining,
            (false, _) => Readiness::Failed(failed.join("; ")),
            (true, false) => Readiness::Loading(loading.join("; ")),
            (true, true) => Readiness::Ready,
        }
    }

    /// Whether requests get on: the model with which it is worst, and how it is there.
    #[must_use]
    pub fn liveness(&self) -> (&Service, Liveness) {
        let mut worst = (&*self.services[0], self.services[0].liveness());
        for service in &self.services[1..] {
            let liveness = service.liveness();
            if liveness.severity() > worst.1.severity() {
                worst = (service, liveness);
            }
        }
        worst
    }

    /// Whether every model that is loaded at the start has been there, at any time since the process began.
    #[must_use]
    pub fn has_started(&self) -> bool {
        self.services.iter().all(|service| service.has_started())
    }

    /// Waits until [it has](Self::has_started).
    pub async fn started(&self) {
        for service in &*self.services {
            service.started().await;
        }
    }

    /// What a request gets that does not say. It is read before it is known which model it means, so this is every model's.
    pub(crate) fn defaults(&self) -> &Defaults {
        self.services[0].defaults()
    }

    /// What all of them record into.
    pub(crate) fn metrics(&self) -> &Metrics {
        self.services[0].metrics()
    }

    /// Requests that hold a slot or wait for one.
    #[must_use]
    pub fn active(&self) -> usize {
        self.services.iter().map(|service| service.active()).sum()
    }

    /// Takes no new request; those that run or wait go on.
    pub fn drain(&self) {
        self.services.iter().for_each(|service| service.drain());
    }

    /// Breaks off whatever still runs or waits, with an error that says so.
    pub fn cancel(&self) {
        self.services.iter().for_each(|service| service.cancel());
    }
}

impl From<Arc<Service>> for Models {
    fn from(only: Arc<Service>) -> Self {
        Self::new(vec![only])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::{FakeEngine, FakePipeline, says};
    use crate::service::{ServiceConfig, Serving};

    fn service(id: &str) -> Arc<Service> {
        Arc::new(Service::new(ServiceConfig::new(id), Metrics::new(&[])))
    }

    fn serving() -> Serving {
        Serving { engine: FakeEngine::new(1, says(&["a"])), pipeline: Arc::new(FakePipeline::default()) }
    }

    #[test]
    fn a_request_means_the_model_that_it_names() {
        let models = Models::new(vec![service("chat"), service("embed")]);
        assert_eq!(models.of("embed").expect("it is served").id(), "embed");
        let error = models.of("other").expect_err("no such model");
        assert_eq!(error.to_string(), "the model `other` is not served here; served: `chat`, `embed`");
        let error = models.of_or_only(None).expect_err("there are two");
        assert_eq!(
            error.to_string(),
            "`model` is missing, and several models are served here; name one of `chat`, `embed`"
        );
        assert_eq!(Models::from(service("chat")).of_or_only(None).expect("the only one").id(), "chat");
    }

    #[test]
    #[should_panic(expected = "two models are `chat`")]
    fn two_of_a_name_are_none() {
        let _ = Models::new(vec![service("chat"), service("chat")]);
    }

    #[test]
    fn a_host_is_ready_when_all_that_it_loads_at_the_start_are() {
        let (chat, embed, third) = (service("chat"), service("embed"), service("third"));
        let models = Models::new(vec![Arc::clone(&chat), Arc::clone(&embed), Arc::clone(&third)]);
        third.on_first_use();
        chat.ready(serving());
        embed.loading("40 %");
        assert_eq!(models.readiness(), Readiness::Loading("embed: 40 %".to_owned()));
        assert!(!models.has_started());
        embed.ready(serving());
        assert_eq!(models.readiness(), Readiness::Ready);
        assert!(models.has_started());
        // It was not promised, and whoever asks for it is told.
        third.failed("no such file");
        assert_eq!(models.readiness(), Readiness::Ready);
        embed.failed("no memory");
        assert!(models.has_started(), "what comes later is for the other probes");
        assert_eq!(models.readiness(), Readiness::Failed("embed: no memory".to_owned()));
        models.drain();
        assert_eq!(models.readiness(), Readiness::Draining);
        assert!(models.iter().all(|service| service.readiness() == Readiness::Draining));
    }
}
