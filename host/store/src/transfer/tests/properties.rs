//! Whatever the sizes, the faults and the interruptions: the hub's bytes, or an error.

use proptest::prelude::*;
use test_hub::{Fault, Match};

use super::*;

/// Something that happens during one download.
#[derive(Debug, Clone)]
enum Event {
    Dropped { at_percent: u64 },
    Fault { after: u32, times: u32, kind: Kind },
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Reset(u64),
    Fin(u64),
    Flip(u64),
    Status(u16),
    IgnoredRange,
    WrongTotal,
    Shifted,
    Longer,
    Shorter,
    Other,
}

fn event() -> impl Strategy<Value = Event> {
    let kind = prop_oneof![
        (0..30_000_u64).prop_map(Kind::Reset),
        (0..30_000_u64).prop_map(Kind::Fin),
        (0..200_000_u64).prop_map(Kind::Flip),
        prop_oneof![Just(403), Just(500), Just(503)].prop_map(Kind::Status),
        Just(Kind::IgnoredRange),
        Just(Kind::WrongTotal),
        Just(Kind::Shifted),
        Just(Kind::Longer),
        Just(Kind::Shorter),
        Just(Kind::Other),
    ];
    prop_oneof![
        (0..100_u64).prop_map(|at_percent| Event::Dropped { at_percent }),
        (0..6_u32, 1..12_u32, kind).prop_map(|(after, times, kind)| Event::Fault { after, times, kind }),
    ]
}

fn fault(after: u32, times: u32, kind: Kind) -> Fault {
    let fault = Fault::new(Match::cdn_get("")).after(after).times(times);
    match kind {
        Kind::Reset(bytes) => fault.reset_after(bytes),
        Kind::Fin(bytes) => fault.fin_after(bytes),
        Kind::Flip(offset) => fault.flip_byte(offset),
        Kind::Status(status) => fault.status(status),
        Kind::IgnoredRange => fault.ignoring_range(),
        Kind::WrongTotal => fault.wrong_total(),
        Kind::Shifted => fault.shifted(3),
        Kind::Longer => fault.lengthened(9),
        Kind::Shorter => fault.shortened(9),
        Kind::Other => fault.other_content(),
    }
}

async fn run(size: u64, limits: TransferLimits, events: Vec<Event>) {
    let mut scene = scene(size);
    scene.limits = limits;
    for event in events {
        scene.progress = Progress::default();
        scene.hub.clear_faults();
        match event {
            Event::Dropped { at_percent } => {
                let landed = async {
                    while scene.seen().bytes_done * 100 < size * at_percent {
                        tokio::task::yield_now().await;
                    }
                };
                let (download, landed) = (std::pin::pin!(scene.download()), std::pin::pin!(landed));
                // It may well be quicker. Then nothing is dropped.
                let _ = future::select(download, landed).await;
            }
            Event::Fault { after, times, kind } => {
                scene.hub.fault(fault(after, times, kind));
                if let Ok(staged) = scene.download().await {
                    // Holds what was published to the hub's bytes.
                    scene.publish(staged).expect("the part is where it was");
                }
            }
        }
    }
    scene.hub.clear_faults();
    scene.progress = Progress::default();
    scene.complete().await;
    assert_eq!(scene.seen().bytes_done, size, "what is counted is what is there");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn every_download_gives_the_hubs_bytes_or_an_error(
        size in prop_oneof![Just(0), 1..20_u64, 1..200_000_u64],
        chunk_bytes in prop_oneof![Just(1 << 20), 5_000..70_000_u64],
        requests_max in 1..6_usize,
        events in prop::collection::vec(event(), 0..4),
    ) {
        let limits = TransferLimits { requests_max, chunk_bytes, ..LIMITS };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.expect("a runtime").block_on(run(size, limits, events));
    }
}
