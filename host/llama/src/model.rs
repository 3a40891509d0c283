//! A GGUF file, loaded.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use engine::{DecoderShape, EncoderShape};
use inference::{EncodingFacts, ModelCard, Vocabulary};
use llama_cpp_sys_2 as sys;

use crate::backend::{self, BackendOptions};
use crate::buffers::{Buffer, Part};
use crate::context::Context;
use crate::cpus::Cpus;
use crate::decoder::LlamaDecoder;
use crate::device::Device;
use crate::encoder::LlamaEncoder;
use crate::encoding::{Encodes, Refusal};
use crate::error::LoadError;
use crate::kv_type::KvType;
use crate::limits::{
    BUFFERS_MAX, CONTEXT_LENGTH_DEFAULT, CONTEXT_LENGTH_DEFAULT_ENCODING, METADATA_BYTES_MAX, SLOTS_MAX,
};
use crate::log;
#[cfg(target_os = "linux")]
use crate::mapping;
use crate::precheck;
use crate::threads::{self, Threads};
use crate::vocabulary::LlamaVocabulary;

/// What to load, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadOptions {
    /// The GGUF file; of a sharded model the first one.
    pub path: PathBuf,
    /// The name that requests use for the model.
    pub id: String,
    /// The commit or digest of the file; empty without either.
    pub revision: String,
    /// Tokens that each sequence holds; `None`: what the model was trained for, at most [`CONTEXT_LENGTH_DEFAULT`].
    pub context_length: Option<u32>,
    /// What computes.
    pub backends: BackendOptions,
    /// Layers on the GPU, the output's counted as one; `None`: all of them where there is a GPU. With none the GPU does
    /// not compute at all.
    pub gpu_layers: Option<u32>,
    /// The only GPU to use, of several; `None`: the layers are spread over all of them by the memory they have free.
    pub main_gpu: Option<u32>,
    /// Threads that compute; `None`: as many as the process may use.
    pub threads: Option<u32>,
    /// The only processors that compute; `None`: wherever the system puts the threads.
    pub cpus: Option<Cpus>,
    /// What keys and values of a model that completes are kept as.
    pub kv_type: KvType,
}

impl LoadOptions {
    /// The defaults for a file.
    pub fn new(path: impl Into<PathBuf>, id: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            id: id.into(),
            revision: String::new(),
            context_length: None,
            backends: BackendOptions::default(),
            gpu_layers: None,
            main_gpu: None,
            threads: None,
            cpus: None,
            kv_type: KvType::default(),
        }
    }
}

/// A loaded model. Cheap to clone; the weights are freed with the last clone, vocabulary and decoder.
#[derive(Clone)]
pub struct Model {
    weights: Arc<Weights>,
    vocabulary: Arc<LlamaVocabulary>,
    card: ModelCard,
    /// `None`: it completes.
    encodes: Option<Encodes>,
    threads: Threads,
    kv_type: KvType,
}

impl Model {
    /// Loads a model. Reads the file, so it takes its time: call it where waiting is fine.
    pub fn load(options: &LoadOptions) -> Result<Self, LoadError> {
        if let Some(cpus) = &options.cpus {
            cpus.check().map_err(|allowed| LoadError::Cpus { cpus: cpus.to_string(), allowed })?;
        }
        let backends = backend::backends(&options.backends)?;
        let (size_on_disk, created) = inspect(&options.path)?;
        let devices = backends.used(options.main_gpu)?;
        let weights = Arc::new(Weights::load(options, devices)?);
        #[cfg(target_os = "linux")]
        if let Some(path) = options.path.to_str().and_then(|path| CString::new(path).ok()) {
            mapping::watch(path, size_on_disk);
        }
        let architecture = weights.metadata(c"general.architecture").unwrap_or_default();
        if let Some(why) = weights.why_unsupported() {
            return Err(LoadError::Unsupported { path: options.path.clone(), architecture, why });
        }
        let encodes = Encodes::of(&weights, &architecture).map_err(|refusal| match refusal {
            Refusal::Broken(reason) => LoadError::Broken { path: options.path.clone(), reason },
            Refusal::Unsupported(why) => {
                LoadError::Unsupported { path: options.path.clone(), architecture: architecture.clone(), why }
            }
        })?;
        if encodes.is_none() && weights.is_without_memory() {
            let why = "encodes text, and its file does not say how (`pooling_type`): convert it again to embed with it";
            return Err(LoadError::Unsupported { path: options.path.clone(), architecture, why });
        }
        let vocabulary =
            LlamaVocabulary::of(&weights).map_err(|reason| LoadError::Broken { path: options.path.clone(), reason })?;

        let context_length_trained = weights.context_length_trained();
        let default = if encodes.is_some() { CONTEXT_LENGTH_DEFAULT_ENCODING } else { CONTEXT_LENGTH_DEFAULT };
        let mut context_length = options.context_length.unwrap_or_else(|| context_length_trained.min(default)).max(1);
        if encodes.is_some() {
            // Beyond that some have no positions, and llama.cpp ends the process.
            context_length = context_length.min(context_length_trained).max(1);
        }
        if context_length > context_length_trained {
            tracing::warn!(
                context_length,
                context_length_trained,
                "the context is longer than the model was trained for"
            );
        }
        let card = ModelCard {
            id: options.id.clone(),
            revision: options.revision.clone(),
            architecture,
            context_length,
            context_length_trained,
            chat_template: weights.metadata(c"tokenizer.chat_template").filter(|template| !template.is_empty()),
            bos_text: vocabulary.beginning_of_sequence().map(|token| vocabulary.text(token)).unwrap_or_default(),
            eos_text: vocabulary.end_of_sequence().map(|token| vocabulary.text(token)).unwrap_or_default(),
            size_bytes: size_on_disk.max(weights.size_bytes()),
            created,
        };
        let threads = options
            .threads
            .and_then(|threads| i32::try_from(threads).ok())
            .filter(|&threads| threads > 0)
            .unwrap_or_else(|| threads::available(options.cpus.as_ref()));
        let is_on_gpu = !devices.is_empty() && options.gpu_layers.is_none_or(|layers| layers > weights.layers());
        let threads = Threads { count: threads, cpus: options.cpus.clone(), are_busy: !is_on_gpu };
        Ok(Self { weights, vocabulary: Arc::new(vocabulary), card, encodes, threads, kv_type: options.kv_type })
    }

    /// The model's facts.
    #[must_use]
    pub fn card(&self) -> &ModelCard {
        &self.card
    }

    /// The model's vocabulary.
    #[must_use]
    pub fn vocabulary(&self) -> Arc<dyn Vocabulary> {
        Arc::clone(&self.vocabulary) as Arc<dyn Vocabulary>
    }

    /// Threads that will compute.
    #[must_use]
    pub fn threads(&self) -> u32 {
        self.threads.count.unsigned_abs()
    }

    /// What it makes of texts, where it is a model that encodes; `None` where it completes them.
    #[must_use]
    pub fn encoding(&self) -> Option<&EncodingFacts> {
        self.encodes.as_ref().map(|encodes| &encodes.facts)
    }

    /// The memory that llama.cpp took for the model and, once there is a decoder, for that.
    #[must_use]
    pub fn buffers(&self) -> Vec<Buffer> {
        self.weights.buffers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes what encodes, and lets it encode once. Call it on the thread that will drive it.
    ///
    /// # Panics
    ///
    /// Where [`Model::encoding`] is `None`.
    pub fn encoder(&self, shape: EncoderShape) -> Result<LlamaEncoder, LoadError> {
        let encodes = self.encodes.as_ref().expect("only models that encode are asked for an encoder");
        self.hold_this_thread()?;
        LlamaEncoder::new(&self.weights, encodes, shape, &self.threads)
    }

    /// Makes what computes, and lets it compute once. Call it on the thread that will drive it.
    pub fn decoder(&self, shape: DecoderShape) -> Result<LlamaDecoder, LoadError> {
        if shape.slots > SLOTS_MAX {
            return Err(LoadError::TooManySlots { slots: shape.slots });
        }
        self.hold_this_thread()?;
        let context = Context::new(&self.weights, shape, &self.threads, self.kv_type)?;
        LlamaDecoder::new(context, Arc::clone(&self.vocabulary), shape)
    }

    /// Where the operator chose processors. OpenMP's threads are started by this one, and stay where it is.
    fn hold_this_thread(&self) -> Result<(), LoadError> {
        let Some(cpus) = &self.threads.cpus else { return Ok(()) };
        cpus.hold_this_thread().map_err(|error| LoadError::Cpus { cpus: cpus.to_string(), allowed: error.to_string() })
    }
}

/// Size and age of a file that starts like a GGUF: errors that name the cause before llama.cpp names a symptom.
fn inspect(path: &Path) -> Result<(u64, u64), LoadError> {
    let open = |source| LoadError::Open { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(open)?;
    let metadata = file.metadata().map_err(open)?;
    let mut magic = Vec::new();
    file.by_ref().take(4).read_to_end(&mut magic).map_err(open)?;
    if magic != b"GGUF" {
        let found = if magic.is_empty() { "nothing".to_owned() } else { format!("\"{}\"", magic.escape_ascii()) };
        return Err(LoadError::NotGguf { path: path.to_owned(), found });
    }
    let created = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    Ok((metadata.len(), created.map_or(0, |age| age.as_secs())))
}

/// llama.cpp's model.
pub(crate) struct Weights {
    model: NonNull<sys::llama_model>,
    /// Held while a context is made: two at once from one model are unsound.
    pub(crate) making_context: Mutex<()>,
    buffers: Mutex<Vec<Buffer>>,
}

// SAFETY: a loaded model is only read, and making contexts of it is serialised by `making_context`.
unsafe impl Send for Weights {}
// SAFETY: as above.
unsafe impl Sync for Weights {}

impl Weights {
    pub(crate) fn load(options: &LoadOptions, devices: &[Device]) -> Result<Self, LoadError> {
        let path = options
            .path
            .to_str()
            .and_then(|path| CString::new(path).ok())
            .ok_or_else(|| LoadError::Path { path: options.path.clone() })?;
        precheck::check(&path).map_err(|reason| LoadError::Broken { path: options.path.clone(), reason })?;
        // SAFETY: returns a plain value.
        let mut parameters = unsafe { sys::llama_model_default_params() };
        // Negative: all of them.
        parameters.n_gpu_layers = options.gpu_layers.map_or(-1, |layers| i32::try_from(layers).unwrap_or(i32::MAX));
        // Ended by a null; one that holds nothing else has the processor compute all.
        let used = if options.gpu_layers == Some(0) { &[] } else { devices };
        let mut devices: Vec<sys::ggml_backend_dev_t> = used.iter().map(Device::as_raw).collect();
        devices.push(std::ptr::null_mut());
        parameters.devices = devices.as_mut_ptr();
        let ((model, reason), buffers) = log::buffers_of(|| {
            // SAFETY: the path is NUL-terminated, the list of devices is ended by a null and copied, and the rest of the
            // parameters is llama.cpp's own but for a number. C++ exceptions are caught inside, where a null pointer is
            // made of them.
            log::reason_of(|| unsafe { sys::llama_model_load_from_file(path.as_ptr(), parameters) })
        });
        let model = NonNull::new(model).ok_or_else(|| LoadError::Rejected { path: options.path.clone(), reason })?;
        let this = Self { model, making_context: Mutex::new(()), buffers: Mutex::new(Vec::new()) };
        this.keep_buffers(buffers);
        Ok(this)
    }

    /// Keeps what was said of buffers. A context's take the place of those of the one before.
    pub(crate) fn keep_buffers(&self, new: Vec<Buffer>) {
        let mut kept = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        if new.iter().any(|buffer| buffer.part != Part::Weights) {
            kept.retain(|buffer| buffer.part == Part::Weights);
        }
        kept.extend(new);
        kept.truncate(BUFFERS_MAX);
    }

    pub(crate) fn as_ptr(&self) -> *mut sys::llama_model {
        self.model.as_ptr()
    }

    pub(crate) fn vocabulary(&self) -> *const sys::llama_vocab {
        // SAFETY: the model is alive.
        unsafe { sys::llama_model_get_vocab(self.as_ptr()) }
    }

    /// Whether a part of a sequence can be forgotten. Models with a recurrent state cannot go back.
    pub(crate) fn can_go_back(&self) -> bool {
        // SAFETY: the model is alive.
        unsafe { !sys::llama_model_is_recurrent(self.as_ptr()) && !sys::llama_model_is_hybrid(self.as_ptr()) }
    }

    /// Layers, the output's not counted.
    pub(crate) fn layers(&self) -> u32 {
        // SAFETY: the model is alive.
        unsafe { sys::llama_model_n_layer(self.as_ptr()) }.unsigned_abs()
    }

    /// Tokens that the layers with a sliding window look back at; 0 where there are none.
    pub(crate) fn sliding_window(&self) -> u32 {
        // SAFETY: the model is alive.
        unsafe { sys::llama_model_n_swa(self.as_ptr()) }.unsigned_abs()
    }

    /// Whether it remembers nothing of what it read: `create_memory` gives these none (`llama-model.cpp`).
    pub(crate) fn is_without_memory(&self) -> bool {
        const WITHOUT_MEMORY: [&str; 11] = [
            "bert",
            "jina-bert-v2",
            "jina-bert-v3",
            "nomic-bert",
            "nomic-bert-moe",
            "neo-bert",
            "eurobert",
            "modern-bert",
            "gemma-embedding",
            "clef",
            "wavtokenizer-dec",
        ];
        let architecture = self.metadata(c"general.architecture").unwrap_or_default();
        WITHOUT_MEMORY.contains(&architecture.as_str())
    }

    /// Numbers of a vector that it makes.
    pub(crate) fn width_out(&self) -> u32 {
        // SAFETY: the model is alive.
        unsafe { sys::llama_model_n_embd_out(self.as_ptr()) }.unsigned_abs()
    }

    /// Classes that its classifier knows.
    pub(crate) fn classes(&self) -> u32 {
        // SAFETY: the model is alive.
        unsafe { sys::llama_model_n_cls_out(self.as_ptr()) }
    }

    /// What a class is called.
    pub(crate) fn label(&self, class: u32) -> String {
        // SAFETY: the model is alive; the text is NUL-terminated, lives as long as it, and is null where there is none.
        unsafe {
            let label = sys::llama_model_cls_label(self.as_ptr(), class);
            if label.is_null() { String::new() } else { CStr::from_ptr(label).to_string_lossy().into_owned() }
        }
    }

    fn why_unsupported(&self) -> Option<&'static str> {
        let model = self.as_ptr();
        // SAFETY: the model is alive.
        unsafe {
            if sys::llama_model_has_encoder(model) {
                Some("encodes its input before it answers")
            } else if !sys::llama_model_has_decoder(model) {
                Some("has no decoder")
            } else if sys::llama_model_is_diffusion(model) {
                Some("writes its answer by diffusion")
            } else {
                None
            }
        }
    }

    fn context_length_trained(&self) -> u32 {
        // SAFETY: the model is alive.
        unsafe { sys::llama_model_n_ctx_train(self.as_ptr()) }.unsigned_abs()
    }

    fn size_bytes(&self) -> u64 {
        // SAFETY: the model is alive.
        unsafe { sys::llama_model_size(self.as_ptr()) }
    }

    /// A metadata value as text, where the file has it.
    pub(crate) fn metadata(&self, key: &CStr) -> Option<String> {
        let mut buffer = vec![0u8; 256];
        loop {
            // SAFETY: the model is alive, the key NUL-terminated, and the buffer as long as said.
            let length = unsafe {
                sys::llama_model_meta_val_str(self.as_ptr(), key.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len())
            };
            let length = usize::try_from(length).ok().filter(|&length| length < METADATA_BYTES_MAX)?;
            if length < buffer.len() {
                buffer.truncate(length);
                return Some(String::from_utf8_lossy(&buffer).into_owned());
            }
            buffer.resize(length + 1, 0);
        }
    }
}

impl Drop for Weights {
    fn drop(&mut self) {
        // SAFETY: contexts and vocabularies hold an `Arc` of this; none is left.
        unsafe { sys::llama_model_free(self.as_ptr()) };
    }
}
