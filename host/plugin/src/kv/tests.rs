use proptest::prelude::*;

use super::*;

fn store() -> GrantedStore {
    let grant = KvGrant { keys_max: 3, key_bytes_max: 4, value_bytes_max: 8, bytes_max: 24, ..KvGrant::new("store") };
    GrantedStore { grant, store: Arc::default() }
}

const MS: Duration = Duration::from_millis(1);

#[test]
fn what_is_set_is_there_until_it_ends() {
    let (store, now) = (store(), Instant::now());
    store.set(b"a", b"1".to_vec(), None, now).expect("it fits");
    store.set(b"b", b"2".to_vec(), Some(10 * MS), now).expect("it fits");
    assert_eq!(store.get(b"b", now + 9 * MS), Ok(Some(b"2".to_vec())));
    assert_eq!(store.get(b"b", now + 10 * MS), Ok(None));
    assert_eq!(store.get(b"a", now + 1_000_000 * MS), Ok(Some(b"1".to_vec())));
    store.set(b"a", b"1".to_vec(), Some(Duration::ZERO), now).expect("it fits");
    assert_eq!(store.get(b"a", now), Ok(None), "it ended as it began");
    store.delete(b"a", now).expect("nothing is no error");
}

#[test]
fn numbers_add_up_and_end_when_the_first_said() {
    let (store, now) = (store(), Instant::now());
    assert_eq!(store.add(b"n", 2, Some(10 * MS), now), Ok(2));
    assert_eq!(store.add(b"n", i64::MAX, Some(1_000 * MS), now + 5 * MS), Ok(i64::MAX));
    assert_eq!(store.add(b"n", -1, None, now + 9 * MS), Ok(i64::MAX - 1));
    assert_eq!(store.get(b"n", now), Ok(Some((i64::MAX - 1).to_le_bytes().to_vec())));
    assert_eq!(store.add(b"n", 1, None, now + 10 * MS), Ok(1), "a new number");
    store.set(b"n", b"text".to_vec(), None, now).expect("it fits");
    assert_eq!(store.add(b"n", 1, None, now), Err(Refusal::Invalid));
    assert_eq!(store.add(b"z", 5, Some(Duration::ZERO), now), Ok(5));
    assert_eq!(store.get(b"z", now), Ok(None));
}

#[test]
fn every_bound_is_refused_as_a_value() {
    let (store, now) = (store(), Instant::now());
    assert_eq!(store.set(b"", b"1".to_vec(), None, now), Err(Refusal::Invalid));
    assert_eq!(store.get(&vec![b'k'; 1 << 20], now), Err(Refusal::Invalid));
    assert_eq!(store.set(b"k", vec![0; 9], None, now), Err(Refusal::Quota));
    for key in [b"a", b"b", b"c"] {
        store.set(key, vec![1; 7], Some(10 * MS), now).expect("24 bytes in all");
    }
    assert_eq!(store.set(b"d", Vec::new(), None, now), Err(Refusal::Quota), "three keys");
    assert_eq!(store.set(b"c", vec![1; 8], None, now), Err(Refusal::Quota), "25 bytes");
    assert_eq!(store.get(b"c", now), Ok(Some(vec![1; 7])), "what was there stays");
    store.set(b"c", Vec::new(), Some(10 * MS), now).expect("less than before");
    store.set(b"d", vec![1; 8], None, now + 10 * MS).expect("the others have ended");
}

#[test]
fn a_scratch_store_begins_alike_and_changes_nothing() {
    let (store, now) = (store(), Instant::now());
    store.set(b"a", b"1".to_vec(), Some(10 * MS), now).expect("it fits");
    let scratch = store.scratch();
    assert_eq!(scratch.get(b"a", now), Ok(Some(b"1".to_vec())));
    scratch.delete(b"a", now).expect("the key is sound");
    scratch.add(b"n", 1, None, now).expect("it fits");
    assert_eq!((store.get(b"a", now), store.get(b"n", now)), (Ok(Some(b"1".to_vec())), Ok(None)));
    assert_eq!(store.scratch().get(b"a", now + 10 * MS), Ok(None), "what ends ends in both");
}

#[test]
fn adding_is_atomic() {
    let store = store();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..1_000).all(|_| store.add(b"n", 1, None, Instant::now()).is_ok()));
        }
    });
    assert_eq!(store.add(b"n", 0, None, Instant::now()), Ok(4_000));
}

#[derive(Debug, Clone)]
enum Call {
    Get,
    Set(Vec<u8>, Option<u64>),
    Delete,
    Add(i64, Option<u64>),
}

fn calls() -> impl Strategy<Value = Vec<(u8, Call, u64)>> {
    let ttl = || proptest::option::of(0_u64..20);
    let call = prop_oneof![
        Just(Call::Get),
        (proptest::collection::vec(any::<u8>(), 0..10), ttl()).prop_map(|(value, ttl)| Call::Set(value, ttl)),
        Just(Call::Delete),
        (-3_i64..3, ttl()).prop_map(|(delta, ttl)| Call::Add(delta, ttl)),
    ];
    proptest::collection::vec((b'a'..b'f', call, 0_u64..8), 0..60)
}

proptest! {
    /// Against a map without bounds of its own: what was taken reads back, and the figures add up.
    #[test]
    fn a_store_is_a_map_with_bounds(calls in calls()) {
        let store = store();
        let mut model: HashMap<u8, (Vec<u8>, Option<Instant>, bool)> = HashMap::new();
        let mut now = Instant::now();
        for (key, call, wait) in calls {
            now += MS * u32::try_from(wait).expect("a few");
            model.retain(|_, (_, end, _)| end.is_none_or(|end| end > now));
            let name = [key];
            let end = |ttl: Option<u64>| ttl.map(|ttl| now + Duration::from_millis(ttl));
            match call {
                Call::Get => {}
                Call::Set(value, ttl) => {
                    if store.set(&name, value.clone(), ttl.map(Duration::from_millis), now).is_ok() {
                        model.insert(key, (value, end(ttl), false));
                    }
                }
                Call::Delete => {
                    store.delete(&name, now).expect("the key is sound");
                    model.remove(&key);
                }
                Call::Add(delta, ttl) => {
                    if let Ok(number) = store.add(&name, delta, ttl.map(Duration::from_millis), now) {
                        let old = model.get(&key).map(|(value, end, is_number)| {
                            prop_assert!(*is_number);
                            Ok((i64::from_le_bytes(value.as_slice().try_into().expect("eight bytes")), *end))
                        }).transpose()?;
                        let (old, end) = old.unwrap_or((0, end(ttl)));
                        prop_assert_eq!(number, old + delta);
                        model.insert(key, (number.to_le_bytes().to_vec(), end, true));
                    }
                }
            }
            model.retain(|_, (_, end, _)| end.is_none_or(|end| end > now));
            for key in b'a'..b'f' {
                prop_assert_eq!(store.get(&[key], now), Ok(model.get(&key).map(|(value, _, _)| value.clone())));
            }
            let entries = store.store.lock();
            prop_assert_eq!(entries.bytes, model.values().map(|(value, _, _)| 1 + value.len()).sum::<usize>());
            prop_assert!(entries.bytes <= 24 && entries.by_key.len() <= 3);
            prop_assert_eq!(entries.ends.len(), entries.by_key.values().filter(|e| e.ends_at.is_some()).count());
        }
    }
}
