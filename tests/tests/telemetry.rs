//! What the crates `tracing` and `metrics` hear. A process has one subscriber and one recorder, so that these tests are a
//! program of their own.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fmt::{self, Write},
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use sockserver::{
    Concurrency, Datagram, HandlerResult, MessageHandler, OnLimit, Options, Reader, RequestHandler, Server, Stream,
    Writer,
    concurrency::{Synchronous, Threading},
    message_handler, request_handler,
    transport::{Tcp, Unix},
};
use sockserver_tests::{
    client::{Client, DatagramClient, eventually},
    in_each_concurrency,
    script::{Script, Session},
    served::Served,
};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};

type Fields = BTreeMap<String, String>;

/// Keeps all spans, and the events with the span that they are in.
#[derive(Default)]
struct Kept {
    spans: Mutex<Vec<Fields>>,
    /// The message of each event, with the number of its span.
    events: Mutex<Vec<(Option<u64>, Fields)>>,
}

thread_local! {
    static INSIDE: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

struct Keeper<'a>(&'a mut Fields);

impl Visit for Keeper<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        let _ = write!(text, "{value:?}");
        self.0.insert(field.name().to_owned(), text);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Subscribed(Arc<Kept>);

impl Subscriber for Subscribed {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut fields = Fields::from([("span".to_owned(), span.metadata().name().to_owned())]);
        span.record(&mut Keeper(&mut fields));
        let mut spans = lock(&self.0.spans);
        spans.push(fields);
        Id::from_u64(spans.len() as u64)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        values.record(&mut Keeper(&mut lock(&self.0.spans)[span.into_u64() as usize - 1]));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::new();
        event.record(&mut Keeper(&mut fields));
        let inside = INSIDE.with(|inside| inside.borrow().last().copied());
        lock(&self.0.events).push((inside, fields));
    }

    fn enter(&self, span: &Id) {
        INSIDE.with(|inside| inside.borrow_mut().push(span.into_u64()));
    }

    fn exit(&self, _: &Id) {
        INSIDE.with(|inside| inside.borrow_mut().pop());
    }
}

/// What is kept of all tests.
fn kept() -> &'static Kept {
    static KEPT: LazyLock<Arc<Kept>> = LazyLock::new(|| {
        let kept = Arc::new(Kept::default());
        tracing::subscriber::set_global_default(Subscribed(kept.clone())).expect("it is the first");
        kept
    });
    &KEPT
}

/// The span of this client's connection.
fn span_of(client_port: u16) -> Option<Fields> {
    lock(&kept().spans).iter().find(|span| span.get("client.port") == Some(&client_port.to_string())).cloned()
}

fn field<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    fields.get(name).map(String::as_str)
}

#[request_handler]
struct Telling {
    rfile: Reader,
    wfile: Writer,
}

#[derive(Server)]
#[server(transport = "tcp", concurrency = C, handler = Telling, hooks(verify_request = Self::tell))]
struct Teller<C: Concurrency + Default>(std::marker::PhantomData<C>);

impl<C: Concurrency + Default> Teller<C> {
    fn tell(&self, _: &Stream, client_address: &sockserver::Address) -> bool {
        tracing::info!("verified {client_address}");
        true
    }
}

impl RequestHandler for Telling {
    fn handle(&mut self) -> HandlerResult {
        use std::io::Write;
        let line = self.rfile.next_line()?.ok_or("no line")?;
        tracing::info!("handled {line}");
        Ok(writeln!(self.wfile, "{line}")?)
    }
}

fn what_a_handler_tells_is_in_the_span_of_its_connection<C: Concurrency + Default>() {
    kept();
    let server = Served::new(Teller::<C>(std::marker::PhantomData).bind("127.0.0.1:0").expect("a free port"));
    let mut client = Client::connect(server.server_address());
    let port = client.address().port().expect("a TCP client");
    let line = format!("line {port}");
    assert_eq!(client.ask(&line), line);
    client.wait_for_end();
    let number = lock(&kept().spans).iter().position(|span| field(span, "client.port") == Some(&port.to_string()));
    let number = number.map(|number| number as u64 + 1);
    assert!(number.is_some());
    for message in [format!("handled {line}"), format!("verified 127.0.0.1:{port}")] {
        let events = lock(&kept().events);
        let (inside, _) =
            events.iter().find(|(_, event)| field(event, "message") == Some(&message)).expect("it is told");
        assert_eq!(*inside, number, "{message}");
    }
    let span = span_of(port).expect("it is there");
    let length = line.len() + 1;
    let expected = [
        ("span", "connection"),
        ("client.address", "127.0.0.1"),
        ("network.peer.address", "127.0.0.1"),
        ("network.transport", "tcp"),
        ("network.type", "ipv4"),
        ("sockserver.connection.outcome", "finished"),
        ("sockserver.connection.bytes_in", &length.to_string()),
        ("sockserver.connection.bytes_out", &length.to_string()),
    ];
    for (name, value) in expected {
        assert_eq!(field(&span, name), Some(value), "{name} in {span:?}");
    }
    assert_eq!(field(&span, "error.type"), None);
    let mut failing = Client::connect(server.server_address());
    let port = failing.address().port().expect("a TCP client");
    failing.finish();
    failing.wait_for_end();
    assert_eq!(field(&span_of(port).expect("it is there"), "error.type"), Some("failed"));
}

in_each_concurrency! { [sync threading pool]: what_a_handler_tells_is_in_the_span_of_its_connection }

#[message_handler(framing = "line")]
struct Repeating {
    wfile: Writer,
}

impl MessageHandler for Repeating {
    type Message = str;

    fn message(&mut self, line: &str) -> HandlerResult {
        use std::io::Write;
        Ok(writeln!(self.wfile, "{line}")?)
    }
}

#[derive(Server)]
#[server(transport = "tcp", concurrency = C, handler = Repeating, proxy(trust = ["127.0.0.1"]))]
struct BehindProxy<C: Concurrency + Default>(std::marker::PhantomData<C>);

fn behind_a_proxy_the_span_names_the_client_once_its_header_has_come<C: Concurrency + Default>() {
    kept();
    let server = Served::new(BehindProxy::<C>(std::marker::PhantomData).bind("127.0.0.1:0").expect("a free port"));
    let mut proxy = Client::connect(server.server_address());
    let port = proxy.address().port().expect("a TCP client").to_string();
    let span = || {
        let spans = lock(&kept().spans);
        spans.iter().rev().find(|span| field(span, "network.peer.port") == Some(&port)).cloned()
    };
    eventually("it is accepted", || span().is_some());
    let client = |span: &Fields| ["client.address", "client.port"].map(|name| field(span, name).map(str::to_owned));
    assert_eq!(client(&span().expect("it is there")), [None, None]);
    proxy.send("PROXY TCP4 203.0.113.9 192.0.2.1 5000 80\r\n");
    assert_eq!(proxy.ask("hello"), "hello");
    let named = span().expect("it is there");
    assert_eq!(client(&named), [Some("203.0.113.9".to_owned()), Some("5000".to_owned())]);
    assert_eq!(field(&named, "network.peer.address"), Some("127.0.0.1"));
    drop(proxy);
    let mut failing = Client::connect(server.server_address());
    let port = failing.address().port().expect("a TCP client").to_string();
    failing.send("hello\n");
    failing.wait_for_end();
    let spans = lock(&kept().spans);
    let span = spans.iter().rev().find(|span| field(span, "network.peer.port") == Some(&port)).expect("it is there");
    assert_eq!(client(span), [None, None]);
}

in_each_concurrency! { [sync threading pool event_loop]: behind_a_proxy_the_span_names_the_client_once_its_header_has_come }

#[request_handler]
#[server(transport = "udp", concurrency = "sync")]
struct Packet {
    packet: Datagram,
}

impl RequestHandler for Packet {
    fn handle(&mut self) -> HandlerResult {
        Ok(self.packet.reply(b"four")?)
    }
}

#[test]
fn spans_name_the_transport() {
    kept();
    let server = Served::new(PacketServer.bind("127.0.0.1:0").expect("a free port"));
    let client = DatagramClient::connect(server.server_address());
    client.send("three");
    client.receive();
    server.stop();
    let span = span_of(client.address().port().expect("a UDP client")).expect("it is there");
    assert_eq!(field(&span, "network.transport"), Some("udp"));
    let handle = |_: &mut Session<Unix, Threading>| Ok(());
    let server = Script::<Unix, Threading>::serve(handle);
    Client::connect(server.server_address()).wait_for_end();
    let spans = lock(&kept().spans);
    assert!(spans.iter().any(|span| field(span, "network.transport") == Some("unix")), "{spans:?}");
}

#[test]
fn what_happens_to_the_server_is_told() {
    kept();
    let server = Served::new(PacketServer.bind("127.0.0.1:0").expect("a free port"));
    let address = server.server_address().to_string();
    server.suspend();
    server.stop();
    let events = lock(&kept().events);
    let messages: Vec<_> = events.iter().filter_map(|(_, event)| field(event, "message")).collect();
    let listening = events.iter().find(|(_, event)| field(event, "server.address") == Some(&address));
    assert_eq!(field(&listening.expect("it is told").1, "message"), Some("listening"));
    for message in ["suspended", "stopping", "stopped"] {
        assert!(messages.contains(&message), "{messages:?}");
    }
}

/// The values of all metrics, by name and labels. A histogram counts its records.
#[derive(Default)]
struct Recorded(Mutex<BTreeMap<String, Arc<Value>>>);

#[derive(Debug, Default)]
struct Value(AtomicU64);

impl CounterFn for Value {
    fn increment(&self, value: u64) {
        self.0.fetch_add(value, SeqCst);
    }

    fn absolute(&self, value: u64) {
        self.0.store(value, SeqCst);
    }
}

impl GaugeFn for Value {
    fn increment(&self, value: f64) {
        self.0.fetch_add(value as u64, SeqCst);
    }

    fn decrement(&self, value: f64) {
        self.0.fetch_sub(value as u64, SeqCst);
    }

    fn set(&self, value: f64) {
        self.0.store(value as u64, SeqCst);
    }
}

impl HistogramFn for Value {
    fn record(&self, value: f64) {
        assert!((0.0..60.0).contains(&value), "it is in seconds: {value}");
        self.0.fetch_add(1, SeqCst);
    }
}

impl Recorded {
    fn value(&self, key: &Key) -> Arc<Value> {
        let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        lock(&self.0).entry(format!("{}{{{}}}", key.name(), labels.join(","))).or_default().clone()
    }
}

struct Recording(Arc<Recorded>);

impl Recorder for Recording {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.0.value(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.0.value(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.0.value(key))
    }
}

fn recorded() -> &'static Recorded {
    static RECORDED: LazyLock<Arc<Recorded>> = LazyLock::new(|| {
        let recorded = Arc::new(Recorded::default());
        assert!(metrics::set_global_recorder(Recording(recorded.clone())).is_ok(), "it is the first");
        recorded
    });
    &RECORDED
}

#[test]
fn a_recorder_has_the_metrics_of_each_server() {
    recorded();
    let mut options = Options::new();
    options.limits.connections = Some(2);
    options.limits.on_limit = OnLimit::Reject;
    let handle = |session: &mut Session<Tcp, Threading>| {
        use std::io::Write;
        while let Some(line) = session.rfile.next_line()? {
            if line == "fail" {
                return Err("no disk".into());
            }
            session.wfile.write_all(b"four")?;
        }
        Ok(())
    };
    let server = Script::<Tcp, Threading>::serve_with(handle, options);
    let other = Script::<Tcp, Synchronous>::serve(|_: &mut Session<Tcp, Synchronous>| Ok(()));
    let value = |name: &str, labels: &str| {
        let key = format!("sockserver_{name}{{server={}{labels}}}", server.server_address());
        lock(&recorded().0).get(&key).unwrap_or_else(|| panic!("no {key}")).0.load(SeqCst)
    };
    let say = |words: &str| {
        let mut client = Client::connect(server.server_address());
        client.send(words);
        client.finish();
        client.wait_for_end();
    };
    say("hello\n");
    say("fail\n");
    let active = [(); 2].map(|()| Client::connect(server.server_address()));
    eventually("both are accepted", || server.stats().active == 2);
    Client::connect(server.server_address()).wait_for_end();
    assert_eq!((value("connections_accepted_total", ""), value("connections_active", "")), (5, 2));
    assert_eq!(value("connections_at_limit", ""), 1);
    drop(active);
    eventually("both have ended", || value("connections_active", "") == 0 && value("connections_at_limit", "") == 0);
    assert_eq!(value("connections_ended_total", ",outcome=finished"), 3);
    assert_eq!(value("connections_ended_total", ",outcome=failed"), 1);
    assert_eq!(value("connections_ended_total", ",outcome=rejected"), 1);
    assert_eq!(value("connections_turned_away_total", ",why=limit"), 1);
    assert_eq!((value("received_bytes_total", ""), value("sent_bytes_total", "")), (11, 4));
    assert_eq!(value("connection_duration_seconds", ""), 5);
    let of_other = format!("sockserver_connections_accepted_total{{server={}}}", other.server_address());
    assert_eq!(lock(&recorded().0)[&of_other].0.load(SeqCst), 0);
}
