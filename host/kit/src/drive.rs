//! One request through the plugins, with a text for what the model answers.

use inference::{Call, ChatRequest, Prepared, Prompt, RequestId, Usage};
use plugin::probe::{self, Probe, Used};

use crate::answer::Sent;
use crate::stand::Loaded;

/// What becomes of a request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Run {
    /// What the policies made of it, and the prompt; `None` where it came to neither.
    pub prepared: Option<(ChatRequest, Prompt)>,
    /// What was sent.
    pub sent: Sent,
    /// What the plugin in question used; `None` where it broke its contract.
    pub used: Option<Used>,
}

/// What is sent, and how.
pub(crate) struct Script<'a> {
    pub(crate) request: &'a ChatRequest,
    pub(crate) headers: &'a [(String, String)],
    /// The request is sent so often; all but the last with `pieces` in one.
    pub(crate) times: u32,
}

impl Script<'_> {
    /// Sends the request, the stores being empty at first. Without pieces nothing is answered.
    pub(crate) fn run(&self, loaded: &Loaded, pieces: &[&str]) -> Run {
        probe::clear_stores(loaded.plugins());
        let whole = pieces.concat();
        let whole: &[&str] = if pieces.is_empty() { &[] } else { &[&whole] };
        for _ in 1..self.times {
            drop(self.send(loaded, whole));
        }
        self.send(loaded, pieces)
    }

    fn send(&self, loaded: &Loaded, pieces: &[&str]) -> Run {
        let mut run = Run::default();
        let call = Call {
            request_id: RequestId::new("test"),
            traceparent: None,
            model: self.request.model.clone(),
            headers: self.headers.to_vec(),
            choice: 0,
        };
        let Some(mut probe) = Probe::begin(loaded.plugins(), call) else {
            run.sent.error = Some(inference::PipelineError::Overloaded);
            return run;
        };
        let usage = self.answer(&mut probe, pieces, &mut run);
        run.sent.notes = probe.notes().to_vec();
        let finish = run.sent.finish();
        let used = probe.end(finish, usage);
        run.used = used.into_iter().find(|used| used.plugin == loaded.name());
        run
    }

    /// As `server` does it: the request, the pieces, the end.
    fn answer(&self, probe: &mut Probe, pieces: &[&str], run: &mut Run) -> Usage {
        let mut usage = Usage::default();
        let prepared = probe.prepare(self.request.clone());
        match prepared {
            Ok(Prepared { request, prompt, .. }) => run.prepared = Some((request, prompt)),
            Err(error) => {
                run.sent.error = Some(error);
                return usage;
            }
        }
        for (number, piece) in pieces.iter().enumerate() {
            usage.completion_tokens += u32::from(!piece.is_empty());
            let pushed = probe.push((*piece).to_owned(), number + 1 == pieces.len());
            match pushed {
                Ok(output) => run.sent.take(output),
                Err(error) => {
                    run.sent.error = Some(error);
                    return usage;
                }
            }
            if run.sent.stop.is_some() {
                break;
            }
        }
        // Without an answer there is none that ends.
        if !pieces.is_empty()
            && let Err(error) = probe.finish(run.sent.finish(), usage)
        {
            run.sent.error = Some(error);
        }
        usage
    }
}
