//! Any bytes as a GGUF: a header or an error, in bounded memory, and from a header facts without a panic.
#![no_main]

use std::io::Cursor;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use model::gguf::{Header, Model, Vocabulary};
use model::memory::{self, Budget, Memory};
use model::{Facts, Footprint, Workload};

fuzz_target!(|bytes: &[u8]| {
    let path = Path::new("fuzz.gguf");
    // As long as it is, and as if it had all the tensors that it talks of.
    for length in [bytes.len() as u64, 1 << 62] {
        let Ok(header) = Header::read_from(bytes, path, length) else { continue };
        assert_eq!(header.tensor_count, header.tensors.len() as u64);
        assert!(header.tensor_bytes <= header.file_bytes);
        let _ = Vocabulary::read_from(Cursor::new(bytes), path, length, &header);
        for workload in
            [Workload::new(4096, 1), Workload { keeps_windows_whole: false, ..Workload::new(u32::MAX, u32::MAX) }]
        {
            let footprint = Footprint::of(&header, &workload);
            assert!(footprint.total_bytes() >= footprint.weights_bytes);
            let budget = Budget { memory: Memory::Ram, have_bytes: 1 << 30 };
            if let Err(refusal) = memory::check(&header, &workload, &[budget]) {
                assert!(refusal.need_bytes > refusal.have_bytes, "{refusal}");
            }
        }
        let _ = Facts::of(&Model { shards: vec![path.to_owned()], header });
    }
});
