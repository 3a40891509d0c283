//! Pushes from the side that waits for them: the thread hop is in them.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use inference::Pipeline as _;
use plugin::Plugins;
use tokio::runtime::{Builder, Runtime};

use crate::fixture::{call, chat, piece};
use crate::table::{Gate, Table};

/// Streams at once, and the pace of each, for the latency under load.
const STREAMS: u32 = 64;
const PACE: Duration = Duration::from_millis(20);

pub(crate) fn hops(table: &Table, plugins: Plugins) {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("a runtime");
    let alone = runtime.block_on(stream(&plugins, 2_000, Duration::ZERO));
    table.show("push through both and the thread hop, one stream", 1, &alone);
    let what = format!("the same, {STREAMS} streams of {} pushes/s", 1_000 / PACE.as_millis());
    table.gate(&what, 1, &streams(&runtime, &Arc::new(plugins)), Gate::P99(200.0));
}

/// Times of single pushes of one stream.
async fn stream(plugins: &Plugins, pushes: usize, pace: Duration) -> Vec<Duration> {
    let mut run = plugins.begin(call());
    run.prepare(chat(1, 16)).await.expect("it renders");
    let mut times = Vec::with_capacity(pushes);
    for number in 0..pushes {
        if !pace.is_zero() {
            tokio::time::sleep(pace).await;
        }
        let started = Instant::now();
        black_box(run.push(piece(number), Vec::new(), false).await.expect("it behaves"));
        times.push(started.elapsed());
    }
    times
}

fn streams(runtime: &Runtime, plugins: &Arc<Plugins>) -> Vec<Duration> {
    runtime.block_on(async {
        let streams: Vec<_> = (0..STREAMS)
            .map(|number| {
                let plugins = Arc::clone(plugins);
                tokio::spawn(async move {
                    // Streams have nothing to do with each other: their tokens do not come at the same moment.
                    tokio::time::sleep(PACE * number / STREAMS).await;
                    stream(&plugins, 150, PACE).await
                })
            })
            .collect();
        let mut times = Vec::new();
        for stream in streams {
            times.extend(stream.await.expect("it behaves"));
        }
        times
    })
}
