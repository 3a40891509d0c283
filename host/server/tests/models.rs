//! Several models in one host: which of them answers, what is said of each, and how one is given up while others go on.

mod support;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use server::{HttpConfig, Listener, Models, Service, ServiceConfig, Serving, serve};
use support::encoder::FakeEncoder;
use support::fakes::{Act, FakeEngine, FakePipeline, says};
use support::{Reply, post};
use telemetry::{Format, Metrics};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};

/// A host with the model `chat`, which answers, and `embed`, which encodes.
struct Pair {
    address: std::net::SocketAddr,
    models: Models,
    chat: Arc<Service>,
    embed: Arc<Service>,
    metrics: Metrics,
}

impl Pair {
    async fn start() -> Self {
        let metrics = Metrics::new(&[]);
        let service = |id: &str| Arc::new(Service::new(ServiceConfig::new(id), metrics.clone()));
        let (chat, embed) = (service("chat"), service("embed"));
        let models = Models::new(vec![Arc::clone(&chat), Arc::clone(&embed)]);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let address = listener.local_addr().expect("a bound address");
        tokio::spawn(serve(
            vec![Listener::from(listener)],
            models.clone(),
            HttpConfig::default(),
            std::future::pending(),
        ));
        Self { address, models, chat, embed, metrics }
    }

    async fn both_ready() -> Self {
        let pair = Self::start().await;
        pair.chat_ready(says(&["Hello", "."]));
        pair.embed.ready_to_encode(FakeEncoder::named("embed"));
        pair
    }

    fn chat_ready(&self, script: Vec<Act>) {
        let engine = FakeEngine::named("chat", 1, script);
        self.chat.ready(Serving {
            engine,
            pipeline: Arc::new(FakePipeline { model: Some("chat"), ..FakePipeline::default() }),
        });
    }

    async fn send(&self, request: &str) -> Reply {
        let mut client = self.begin(request).await;
        Reply::read(&mut client).await
    }

    async fn begin(&self, request: &str) -> TcpStream {
        let mut client = TcpStream::connect(self.address).await.expect("the server listens");
        client.write_all(request.as_bytes()).await.expect("the server reads");
        client
    }

    async fn post(&self, path: &str, body: &Value) -> Reply {
        self.send(&post(path, &body.to_string())).await
    }

    async fn get(&self, path: &str) -> Reply {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")).await
    }
}

/// A body for every path that a model is behind, all but the model's name.
fn bodies() -> [(&'static str, Value); 10] {
    let messages = json!([{"role": "user", "content": "Hi"}]);
    [
        ("/v1/chat/completions", json!({"messages": messages})),
        ("/v1/completions", json!({"prompt": "Hi"})),
        ("/v1/messages", json!({"messages": messages, "max_tokens": 5})),
        ("/v1/messages/count_tokens", json!({"messages": messages})),
        ("/v1/responses", json!({"input": "Hi"})),
        ("/render", json!({"messages": messages})),
        ("/tokenize", json!({"prompt": "Hi"})),
        ("/detokenize", json!({"tokens": [65]})),
        ("/v1/embeddings", json!({"input": "a"})),
        ("/v1/rerank", json!({"query": "a", "documents": ["b"]})),
    ]
}

fn with_model(body: &Value, model: &str) -> Value {
    let mut body = body.clone();
    body["model"] = model.into();
    body
}

#[tokio::test]
async fn each_request_goes_to_the_model_that_it_names() {
    let pair = Pair::both_ready().await;
    for (path, body) in bodies() {
        let (right, wrong) = match path {
            "/v1/embeddings" => ("embed", Some("chat")),
            // Nobody ranks here.
            "/v1/rerank" => continue,
            "/tokenize" | "/detokenize" => ("chat", None),
            _ => ("chat", Some("embed")),
        };
        let reply = pair.post(path, &with_model(&body, right)).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.body);
        if let Some(wrong) = wrong {
            let reply = pair.post(path, &with_model(&body, wrong)).await;
            assert_eq!(reply.status, 400, "{path}: {}", reply.body);
            assert!(reply.body.contains("ask it with POST"), "{path}: {}", reply.body);
        }
    }
}

#[tokio::test]
async fn an_unknown_model_is_told_what_there_is_in_every_form() {
    let pair = Pair::both_ready().await;
    for (path, body) in bodies() {
        let reply = pair.post(path, &with_model(&body, "gpt-4")).await;
        assert_eq!(reply.status, 404, "{path}: {}", reply.body);
        let error = &reply.json()["error"];
        assert_eq!(error["message"], "the model `gpt-4` is not served here; served: `chat`, `embed`", "{path}");
        let nameless = pair.post(path, &body).await;
        assert_eq!(nameless.status, 400, "{path}: {}", nameless.body);
        assert!(nameless.body.contains("model"), "{path}: {}", nameless.body);
    }
    let (code, message) = pair.post("/tokenize", &json!({"prompt": "Hi"})).await.error();
    assert_eq!(code, "missing_required_parameter");
    assert_eq!(message, "`model` is missing, and several models are served here; name one of `chat`, `embed`");
    assert!(!pair.metrics.encode(Format::Text).contains("gpt-4"), "a client's text is no label");
}

#[tokio::test]
async fn what_is_served_is_listed_with_how_it_is() {
    let pair = Pair::start().await;
    pair.chat.loading("40 %");
    pair.embed.on_first_use();
    insta::assert_snapshot!("models_on_their_way", pair.get("/v1/models").await.body);
    let ready = pair.get("/readyz").await;
    assert_eq!(ready.status, 503);
    insta::assert_snapshot!("readyz_of_models_on_their_way", ready.body);

    pair.chat_ready(says(&["a"]));
    let ready = pair.get("/readyz?verbose").await;
    assert_eq!(ready.status, 200, "the other is loaded at its first use");
    insta::assert_snapshot!("readyz_verbose", ready.body);
    pair.embed.ready_to_encode(FakeEncoder::named("embed"));
    insta::assert_snapshot!("models_loaded", pair.get("/v1/models").await.body);
    assert_eq!(pair.get("/v1/models/embed").await.json()["outrigger"]["capability"], "embedding");
    let text = pair.metrics.encode(Format::Text);
    for model in ["chat", "embed"] {
        assert!(text.contains(&format!("outrigger_ready{{model=\"{model}\"}} 1\n")), "{text}");
        assert!(text.contains(&format!("outrigger_requests_running{{model=\"{model}\"}} 0\n")), "{text}");
    }
    pair.models.drain();
    assert_eq!(pair.get("/readyz").await.status, 503);
}

#[tokio::test]
async fn a_full_line_of_one_model_holds_up_no_other() {
    let pair = Pair::both_ready().await;
    pair.chat_ready(vec![Act::Hang]);
    let body = with_model(&bodies()[0].1, "chat");
    let mut hanging = Vec::new();
    // One in its slot, and as many as may wait.
    for _ in 0..=server::limits::QUEUE_MAX_DEFAULT {
        hanging.push(pair.begin(&post("/v1/chat/completions", &body.to_string())).await);
    }
    while pair.chat.active() <= server::limits::QUEUE_MAX_DEFAULT {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(pair.post("/v1/chat/completions", &body).await.error().0, "queue_full");
    let reply = pair.post("/v1/embeddings", &json!({"model": "embed", "input": "a"})).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
}

/// A model that nobody asked for is given up, and not before; what runs and waits is never cut.
#[tokio::test]
async fn a_model_is_given_up_when_nobody_uses_it_and_comes_back() {
    const IDLE: Duration = Duration::from_millis(30);
    let pair = Pair::both_ready().await;
    pair.chat_ready([vec![Act::Wait(Duration::from_millis(400))], says(&["slow"])].concat());
    let chat = Arc::clone(&pair.chat);
    let unloading = tokio::spawn(async move { chat.unloaded_when_idle(IDLE).await });
    let body = with_model(&bodies()[0].1, "chat");
    // One runs far longer than a model may be idle, and another waits behind it.
    let (first, second) =
        tokio::join!(pair.post("/v1/chat/completions", &body), pair.post("/v1/chat/completions", &body));
    assert_eq!((first.status, second.status), (200, 200), "{} {}", first.body, second.body);
    drop(unloading.await.expect("it was given up"));
    let ready = pair.get("/readyz").await.json();
    assert_eq!((&ready["status"], &ready["models"][0]["state"]), (&json!("ok"), &json!("on_first_use")));
    assert!(pair.metrics.encode(Format::Text).contains("outrigger_ready{model=\"chat\"} 0\n"));
    // Nobody wants it: what asked for it while it was there was answered.
    assert!(tokio::time::timeout(Duration::ZERO, pair.chat.wanted()).await.is_err());

    let load = async {
        pair.chat.wanted().await;
        pair.chat_ready(says(&["again"]));
    };
    let (reply, ()) = tokio::join!(pair.post("/v1/chat/completions", &body), load);
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert!(reply.body.contains("again"));
}

#[tokio::test]
async fn after_a_load_that_failed_a_request_gets_the_reason_and_the_next_one_tries_again() {
    let pair = Pair::both_ready().await;
    drop(pair.chat.unloaded_when_idle(Duration::ZERO).await);
    let body = with_model(&bodies()[0].1, "chat");
    let fail = async {
        pair.chat.wanted().await;
        pair.chat.failed("no memory");
    };
    let (reply, ()) = tokio::join!(pair.post("/v1/chat/completions", &body), fail);
    assert_eq!((reply.status, reply.error().0.as_str()), (503, "model_failed"));
    assert_eq!(reply.error().1, "the model could not be loaded: no memory");
    // It was there at the start, so the host is not what it was.
    let ready = pair.get("/readyz").await;
    assert_eq!((ready.status, &ready.json()["reason"]), (503, &json!("chat: no memory")));
    assert_eq!(pair.post("/v1/chat/completions", &body).await.error().0, "model_failed");
    tokio::time::timeout(Duration::from_secs(5), pair.chat.wanted()).await.expect("asked for again");
    pair.chat_ready(says(&["a"]));
    assert_eq!(pair.post("/v1/chat/completions", &body).await.status, 200);
}
