//! The table of all that the attributes can say: the grammar, the checks and the reference page are made from it.
//!
//! A new key is a line here, and the option, the setter or the hook that it sets in the runtime crate. What only some
//! transports or concurrencies have gets a rule in `composition`. A new group is an entry of `groups`, and a field of
//! `Options` of the same name. What a feature of the runtime crate adds has the feature of the same name here.

use crate::{
    composition::{self, Rule},
    value::{Kind, Refusal, Word, Words},
};

/// What can be written in one attribute.
pub(crate) struct Grammar {
    /// The name of the attribute.
    pub(crate) name: &'static str,
    /// The first is the attribute itself and has no name.
    pub(crate) groups: &'static [Group],
    /// Python's names for what has another name here, or another place.
    pub(crate) python: &'static [(&'static str, &'static str)],
    /// What others call otherwise, or have where this has none.
    pub(crate) foreign: &'static [(&'static str, &'static str)],
}

pub(crate) struct Group {
    pub(crate) name: &'static str,
    /// The type of the runtime crate that documents the keys as its fields or methods, where they have no other.
    #[cfg_attr(not(test), expect(dead_code, reason = "it is for the reference page, which a test writes"))]
    pub(crate) documented_in: &'static str,
    /// The key without which the others mean nothing.
    pub(crate) required: Option<&'static str>,
    pub(crate) keys: &'static [Key],
}

pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) takes: Kind,
    pub(crate) sets: Target,
    pub(crate) scope: Scope,
    /// The group without which it means nothing, and why.
    pub(crate) needs: Option<(&'static [&'static str], &'static str)>,
    /// In words, or as the value would be written.
    #[cfg_attr(not(test), expect(dead_code, reason = "it is for the reference page, which a test writes"))]
    pub(crate) default: &'static str,
    /// The values of the right kind that are refused, each with the end of a sentence that begins with the key.
    pub(crate) refused: &'static [(Refusal, &'static str)],
}

/// What the value sets.
pub(crate) enum Target {
    Crate,
    ServerName,
    Transport,
    Concurrency,
    Handler,
    Framing,
    /// The field of `Options` that has the name of the key, in the field that has the name of the group.
    Option {
        is_optional: bool,
    },
    /// `Context::set_…`, with the name of the key.
    Context {
        is_fallible: bool,
    },
    /// The method of `Server` that has the name of the key, or the constant of that name.
    Hook(Signature),
}

/// What a hook is called with beside `&self`, and whether it decides something.
pub(crate) struct Signature {
    pub(crate) parameters: &'static [Parameter],
    pub(crate) returns: Returns,
}

pub(crate) enum Returns {
    Nothing,
    Bool,
    /// Nothing, and the function is the value of a constant.
    NothingAsConstant,
    /// `io::Result<Tls>`.
    #[cfg(feature = "tls")]
    Tls,
}

pub(crate) enum Parameter {
    Handle,
    Request,
    Error,
    ClientAddress,
    Event,
}

/// Where a key means something.
pub(crate) enum Scope {
    All,
    Fitting(&'static Rule),
    /// Said in words, in the reference only.
    #[cfg_attr(not(test), expect(dead_code, reason = "it is for the reference page, which a test writes"))]
    Words(&'static str),
}

impl Key {
    const fn new(name: &'static str, takes: Kind, sets: Target, default: &'static str) -> Key {
        Key { name, takes, sets, scope: Scope::All, needs: None, default, refused: &[] }
    }

    const fn option(name: &'static str, takes: Kind, default: &'static str) -> Key {
        Key::new(name, takes, Target::Option { is_optional: false }, default)
    }

    /// An option whose default is `None`, in these words.
    const fn optional(name: &'static str, takes: Kind, default: &'static str) -> Key {
        Key::new(name, takes, Target::Option { is_optional: true }, default)
    }

    const fn hook(name: &'static str, example: &'static str, default: &'static str) -> Key {
        Key::deciding(name, example, Signature { parameters: &[], returns: Returns::Nothing }, default)
    }

    const fn deciding(name: &'static str, example: &'static str, signature: Signature, default: &'static str) -> Key {
        Key::new(name, Kind::Path(example), Target::Hook(signature), default)
    }

    const fn only(self, rule: &'static Rule) -> Key {
        Key { scope: Scope::Fitting(rule), ..self }
    }

    const fn to(self, what: &'static str) -> Key {
        Key { scope: Scope::Words(what), ..self }
    }

    const fn needs(self, groups: &'static [&'static str], because: &'static str) -> Key {
        Key { needs: Some((groups, because)), ..self }
    }

    const fn refused(self, refused: &'static [(Refusal, &'static str)]) -> Key {
        Key { refused, ..self }
    }

    pub(crate) fn usage(&self) -> String {
        format!("{} = {}", self.name, self.takes.example())
    }
}

/// The words that are keys or groups only with the feature `tls`.
pub(crate) const OF_TLS: &[&str] = &["tls", "certificate", "key", "client_auth", "client_ca", "alpn"];

pub(crate) static GRAMMARS: &[&Grammar] = &[&SERVER, &REQUEST_HANDLER, &MESSAGE_HANDLER];

const CRATE: Key = Key::new("crate", Kind::Path("framework::sockserver"), Target::Crate, "`::sockserver`")
    .to("where this crate is found");

const WORKERS: &str = "four for each core, where [silent clients can hold all of them](crate::guide::choosing#how-a-pool-starves); \
                       one loop, and more as needed";

pub(crate) static SERVER: Grammar = Grammar {
    name: "server",
    groups: &[
        Group {
            name: "",
            documented_in: "Options",
            required: None,
            keys: &[
                Key::new("transport", Kind::Word(&composition::TRANSPORT), Target::Transport, "required"),
                Key::new("concurrency", Kind::Word(&composition::CONCURRENCY), Target::Concurrency, "required"),
                Key::new("handler", Kind::Path("Session"), Target::Handler, "required").to("`#[derive(Server)]`"),
                Key::new("name", Kind::Name("EchoServer"), Target::ServerName, "the handler's, and `Server`")
                    .to("`#[request_handler]` with `#[server(…)]`"),
                Key::optional("workers", Kind::Count, WORKERS)
                    .only(&composition::WORKS)
                    .refused(&[(Refusal::Zero, "cannot be zero: no thread would serve")]),
                Key::optional("stack_size", Kind::Size, "that of `std::thread`")
                    .only(&composition::STARTS_THREADS)
                    .refused(&[(Refusal::Zero, "cannot be zero: a thread needs a stack")]),
                Key::option("allow_threads", Kind::Flag, "`false`").only(&composition::FORKS),
                CRATE,
            ],
        },
        Group {
            name: "socket",
            documented_in: "SocketOptions",
            required: None,
            keys: &[
                Key::option("request_queue_size", Kind::Count, "`1024`").only(&composition::HAS_QUEUE),
                Key::option("allow_reuse_address", Kind::Flag, "`true`").only(&composition::REUSES_ADDRESS),
                Key::option("allow_reuse_port", Kind::Flag, "`false`").only(&composition::HAS_PORT),
                Key::option("nodelay", Kind::Flag, "`true`").only(&composition::TCP),
                Key::optional("keepalive", Kind::Duration, "no probes").only(&composition::TCP).refused(&[
                    (Refusal::Zero, "cannot be zero: leave it out for no probes"),
                    // `MAX_TCP_KEEPIDLE` of Linux, above which binding would fail.
                    (Refusal::Above(32_767_000), "can be at most `\"32767s\"`, the longest that the kernel takes"),
                ]),
                Key::optional("keepalive_interval", Kind::Duration, "the kernel's").only(&composition::TCP).refused(&[
                    (Refusal::Zero, "cannot be zero: leave it out for the kernel's"),
                    // `MAX_TCP_KEEPINTVL` of Linux.
                    (Refusal::Above(32_767_000), "can be at most `\"32767s\"`, the longest that the kernel takes"),
                ]),
                Key::optional("keepalive_retries", Kind::Count, "the kernel's").only(&composition::TCP).refused(&[
                    (Refusal::Zero, "cannot be zero: leave it out for the kernel's"),
                    // `MAX_TCP_KEEPCNT` of Linux.
                    (Refusal::Above(127), "can be at most `127`, the most that the kernel takes"),
                ]),
                Key::optional("user_timeout", Kind::Duration, "the kernel's").only(&composition::TCP).refused(&[
                    (Refusal::Zero, "cannot be zero: leave it out for the kernel's"),
                    (Refusal::Above(i32::MAX as u64), "can be at most `\"596h\"`, the longest that the kernel takes"),
                ]),
                Key::optional("defer_accept", Kind::Duration, "clients are accepted at once")
                    .only(&composition::TCP)
                    .refused(&[(Refusal::Zero, "cannot be zero: leave it out to accept clients at once")]),
                Key::optional("receive_buffer", Kind::Size, "the kernel's")
                    .only(&composition::PASSES_BUFFERS_ON)
                    .refused(NO_BUFFER),
                Key::optional("send_buffer", Kind::Size, "the kernel's")
                    .only(&composition::PASSES_BUFFERS_ON)
                    .refused(NO_BUFFER),
                Key::optional("dscp", Kind::Count, "the kernel's")
                    .only(&composition::IP)
                    .refused(&[(Refusal::Above(63), "can be at most `63`: it has six bits")]),
                Key::optional("device", Kind::Text("eth0"), "all interfaces")
                    .only(&composition::IP)
                    .refused(&[(Refusal::Empty, "cannot be empty: leave it out for all interfaces")]),
                Key::option("only_v6", Kind::Flag, "`false`").only(&composition::IP),
                Key::option("max_packet_size", Kind::Size, "`65535`")
                    .only(&composition::HAS_PACKETS)
                    .refused(&[(Refusal::Zero, "cannot be zero: no packet would fit")]),
                Key::optional("mode", Kind::Mode, "as the umask has it")
                    .only(&composition::HAS_FILE)
                    .refused(&[(Refusal::Above(0o777), "can be at most `0o777`")]),
                Key::option("unlink", Kind::Flag, "`true`").only(&composition::HAS_FILE),
            ],
        },
        Group {
            name: "limits",
            documented_in: "Limits",
            required: None,
            keys: &[
                Key::optional("connections", Kind::Count, "by concurrency").refused(NO_CLIENT),
                Key::optional("per_client", Kind::Count, "no limit")
                    .only(&composition::COUNTS_CLIENTS)
                    .refused(NO_CLIENT),
                Key::optional("handshakes", Kind::Count, "half of `connections`")
                    .only(&composition::HAS_PREAMBLE)
                    .needs(PREAMBLE, NO_PREAMBLE)
                    .refused(NO_CLIENT),
                Key::optional("threads", Kind::Count, "256")
                    .only(&composition::HANDS_OVER)
                    .refused(&[(Refusal::Zero, "cannot be zero: a thread has to serve")]),
                Key::optional("rate", Kind::Rate, "no limit").refused(NO_CLIENT),
                Key::optional("rate_per_client", Kind::Rate, "no limit")
                    .only(&composition::COUNTS_CLIENTS)
                    .refused(NO_CLIENT),
                Key::option("on_limit", Kind::Word(&ON_LIMIT), "`\"wait\"`").only(&composition::SERVES_SEVERAL),
            ],
        },
        Group {
            name: "timeouts",
            documented_in: "Timeouts",
            required: None,
            keys: &[
                Key::optional("handle_request", Kind::Duration, "for ever").to("`SocketServer::handle_request`"),
                Key::optional("idle", Kind::Duration, "for ever")
                    .only(&composition::HAS_CONNECTIONS)
                    .refused(NO_TIMEOUT),
                Key::optional("lifetime", Kind::Duration, "for ever")
                    .only(&composition::HAS_CONNECTIONS)
                    .refused(NO_TIMEOUT),
                Key::optional("message", Kind::Duration, "for ever")
                    .only(&composition::HAS_CONNECTIONS)
                    .refused(NO_TIMEOUT),
                Key::option("handshake", Kind::Duration, "`\"10s\"`")
                    .only(&composition::HAS_PREAMBLE)
                    .needs(PREAMBLE, NO_PREAMBLE)
                    .refused(&[(Refusal::Zero, "cannot be zero: no client could be in time")]),
                Key::option("linger", Kind::Duration, "`\"0s\"`"),
                Key::option("shutdown", Kind::Duration, "`\"25s\"`"),
                Key::optional("poll", Kind::Duration, "between requests only").to("`service_actions`").refused(&[(
                    Refusal::Zero,
                    "cannot be zero: the server would never sleep; leave it out to have `service_actions` called \
                     between requests only",
                )]),
            ],
        },
        Group {
            name: "access",
            documented_in: "Access",
            required: None,
            keys: &[
                Key::optional("allow", Kind::Networks, "everybody").only(&composition::HAS_IP_CLIENTS).refused(&[(
                    Refusal::Empty,
                    "cannot be empty: nobody would be let in; leave it out to let everybody in",
                )]),
                Key::optional("deny", Kind::Networks, "nobody").only(&composition::HAS_IP_CLIENTS),
            ],
        },
        Group {
            name: "proxy",
            documented_in: "ProxyOptions",
            required: Some("trust"),
            keys: &[
                Key::optional("trust", Kind::Proxies, "required").only(&composition::HAS_PREAMBLE).refused(&[(
                    Refusal::Empty,
                    "cannot be empty: no peer could send a header; name the networks of the proxies",
                )]),
                Key::option("untrusted", Kind::Word(&UNTRUSTED), "`\"reject\"`")
                    .only(&composition::HAS_PREAMBLE)
                    .needs(&["proxy"], NO_HEADER),
                Key::option("versions", Kind::Word(&VERSIONS), "`\"both\"`")
                    .only(&composition::HAS_PREAMBLE)
                    .needs(&["proxy"], NO_HEADER),
            ],
        },
        #[cfg(feature = "tls")]
        Group {
            name: "tls",
            documented_in: "TlsOptions",
            required: None,
            keys: &[
                Key::optional("certificate", Kind::Text("cert.pem"), "none")
                    .only(&composition::HAS_TLS)
                    .refused(NO_PATH),
                Key::optional("key", Kind::Text("key.pem"), "none").only(&composition::HAS_TLS).refused(NO_PATH),
                Key::option("client_auth", Kind::Word(&CLIENT_AUTH), "clients are not asked")
                    .only(&composition::HAS_TLS),
                Key::optional("client_ca", Kind::Text("ca.pem"), "none").only(&composition::HAS_TLS).refused(NO_PATH),
                Key::option("alpn", Kind::Texts("http/1.1"), "`[]`").only(&composition::HAS_TLS),
                Key::option("versions", Kind::Word(&TLS_VERSIONS), "`\"both\"`").only(&composition::HAS_TLS),
                Key::option("start", Kind::Word(&TLS_START), "`\"accept\"`").only(&composition::HAS_TLS),
                Key::optional("reload", Kind::Duration, "never").only(&composition::HAS_TLS),
                Key::option("tickets", Kind::Flag, "`true`").only(&composition::HAS_TLS),
            ],
        },
        Group {
            name: "hooks",
            documented_in: "Server",
            required: None,
            keys: &[
                Key::deciding(
                    "server_activate",
                    "Self::on_activate",
                    Signature { parameters: &[Parameter::Handle], returns: Returns::Nothing },
                    "nothing",
                ),
                Key::deciding(
                    "verify_request",
                    "Self::is_welcome",
                    Signature { parameters: &[Parameter::Request, Parameter::ClientAddress], returns: Returns::Bool },
                    "every request is welcome",
                ),
                Key::deciding(
                    "handle_error",
                    "Self::on_error",
                    Signature { parameters: &[Parameter::Error, Parameter::ClientAddress], returns: Returns::Nothing },
                    "a line on standard error",
                ),
                Key::deciding(
                    "event",
                    "Self::on_event",
                    Signature { parameters: &[Parameter::Event], returns: Returns::NothingAsConstant },
                    "nothing",
                ),
                Key::hook("handle_timeout", "Self::on_timeout", "nothing"),
                Key::hook("service_actions", "Self::on_turn", "nothing"),
                Key::hook("server_close", "Self::on_close", "nothing"),
                #[cfg(feature = "tls")]
                Key::deciding(
                    "tls",
                    "Self::certificates",
                    Signature { parameters: &[], returns: Returns::Tls },
                    "the files of `tls(…)`",
                )
                .only(&composition::HAS_TLS),
            ],
        },
    ],
    python: &[
        (
            "timeout",
            "`timeouts(handle_request = …)` is that of `handle_request`, `#[request_handler(timeout = …)]` that of \
             each read and write",
        ),
        ("poll_interval", "it is `timeouts(poll = …)`"),
        ("max_children", "it is `limits(connections = …)`"),
        ("disable_nagle_algorithm", "it is `socket(nodelay = …)`"),
        ("daemon_threads", SHUTDOWN),
        ("block_on_close", SHUTDOWN),
        ("address_family", "it follows from the address that `bind` takes"),
        ("server_address", "it is what `bind` takes"),
        ("RequestHandlerClass", "it is `handler = …`"),
        ("setup", OF_HANDLER),
        ("handle", OF_HANDLER),
        ("finish", OF_HANDLER),
        ("server_bind", "it is a method of the trait `BindTo`, which the address that `bind` takes implements"),
        ("get_request", "it is a method of the type that `transport = …` names"),
        ("process_request", "it is a method of the type that `concurrency = …` names"),
        ("finish_request", "it is `Job::process`, which the type that `concurrency = …` names calls"),
        ("shutdown_request", ON_DROP),
        ("close_request", ON_DROP),
    ],
    foreign: &[
        ("address", BOUND),
        ("host", BOUND),
        ("port", BOUND),
        ("backlog", "it is `socket(request_queue_size = …)`"),
        ("read", EACH_READ),
        ("write", EACH_READ),
    ],
};

const BOUND: &str = "`bind` takes the address, like `bind(\"127.0.0.1:8080\")`";

const EACH_READ: &str = "`#[request_handler(timeout = …)]` bounds each read and each write";

const MAILBOX: Key = Key::new("mailbox", Kind::Count, Target::Context { is_fallible: false }, "`128`")
    .only(&composition::SHARES_MEMORY)
    .refused(&[(Refusal::Zero, "cannot be zero: nothing could be sent")]);

const TIMEOUT: Key =
    Key::new("timeout", Kind::Duration, Target::Context { is_fallible: true }, "for ever; a reply: `\"1s\"`")
        .refused(NO_TIMEOUT);

const RBUFSIZE: Key = Key::new("rbufsize", Kind::Size, Target::Context { is_fallible: false }, "`\"8KiB\"`")
    .only(&composition::HAS_BUFFERS)
    .refused(&[(Refusal::Zero, "cannot be zero: a reader needs a buffer")]);

const WBUFSIZE: Key = Key::new("wbufsize", Kind::Size, Target::Context { is_fallible: false }, "`\"8KiB\"`")
    .only(&composition::HAS_BUFFERS);

const NAGLE: &[(&str, &str)] = &[("disable_nagle_algorithm", "it is `#[server(socket(nodelay = …))]`")];

pub(crate) static REQUEST_HANDLER: Grammar = Grammar {
    name: "request_handler",
    groups: &[Group {
        name: "",
        documented_in: "Context",
        required: None,
        keys: &[
            TIMEOUT,
            RBUFSIZE,
            WBUFSIZE,
            Key::new("max_line", Kind::Size, Target::Context { is_fallible: false }, "`\"64KiB\"`")
                .refused(&[(Refusal::Zero, "cannot be zero: no line would fit")]),
            MAX_FRAME,
            MAILBOX,
            CRATE,
        ],
    }],
    python: NAGLE,
    foreign: &[],
};

pub(crate) static MESSAGE_HANDLER: Grammar = Grammar {
    name: "message_handler",
    groups: &[Group {
        name: "",
        documented_in: "Context",
        required: None,
        keys: &[
            Key::new("framing", Kind::Word(&FRAMING), Target::Framing, "required"),
            MAX_FRAME,
            TIMEOUT,
            RBUFSIZE,
            WBUFSIZE,
            MAILBOX,
            CRATE,
        ],
    }],
    python: NAGLE,
    foreign: &[],
};

pub(crate) static FRAMING: Words = Words {
    words: &[
        Word { word: "line", name: "Line" },
        Word { word: "crlf", name: "Crlf" },
        Word { word: "nul", name: "Nul" },
        Word { word: "netstring", name: "Netstring" },
        Word { word: "u8", name: "U8" },
        Word { word: "u16", name: "U16" },
        Word { word: "u32", name: "U32" },
        Word { word: "u16_le", name: "U16Le" },
        Word { word: "u32_le", name: "U32Le" },
        Word { word: "varint", name: "Varint" },
    ],
    home: "framing",
    are_types: true,
    synonyms: &[("u16_be", "\"u16\""), ("u32_be", "\"u32\""), ("json", "\"line\"`, with `type Message = Json<T>")],
};

const MAX_FRAME: Key = Key::new("max_frame", Kind::Size, Target::Context { is_fallible: false }, "`\"64KiB\"`")
    .refused(&[(Refusal::Zero, "cannot be zero: no frame would fit")]);

static ON_LIMIT: Words = Words {
    words: &[Word { word: "wait", name: "Wait" }, Word { word: "reject", name: "Reject" }],
    home: "OnLimit",
    are_types: false,
    synonyms: &[],
};

static UNTRUSTED: Words = Words {
    words: &[Word { word: "reject", name: "Reject" }, Word { word: "direct", name: "Direct" }],
    home: "UntrustedPeer",
    are_types: false,
    synonyms: &[],
};

static VERSIONS: Words = Words {
    words: &[Word { word: "both", name: "Both" }, Word { word: "1", name: "One" }, Word { word: "2", name: "Two" }],
    home: "ProxyVersions",
    are_types: false,
    synonyms: &[],
};

/// The groups that make a connection begin with something else than its first request.
const PREAMBLE: &[&str] = if cfg!(feature = "tls") { &["proxy", "tls"] } else { &["proxy"] };
const NO_PREAMBLE: &str = "nothing else precedes the handler";
const NO_HEADER: &str = "no header is looked for";

#[cfg(feature = "tls")]
static CLIENT_AUTH: Words = Words {
    words: &[Word { word: "required", name: "Required" }, Word { word: "optional", name: "Optional" }],
    home: "ClientAuth",
    are_types: false,
    synonyms: &[],
};

#[cfg(feature = "tls")]
static TLS_VERSIONS: Words = Words {
    words: &[
        Word { word: "both", name: "Both" },
        Word { word: "1.2", name: "Tls12" },
        Word { word: "1.3", name: "Tls13" },
    ],
    home: "TlsVersions",
    are_types: false,
    synonyms: &[],
};

#[cfg(feature = "tls")]
static TLS_START: Words = Words {
    words: &[Word { word: "accept", name: "Accept" }, Word { word: "handler", name: "Handler" }],
    home: "TlsStart",
    are_types: false,
    synonyms: &[],
};

#[cfg(feature = "tls")]
const NO_PATH: &[(Refusal, &str)] = &[(Refusal::Empty, "cannot be empty: it is the path of a file")];

const NO_CLIENT: &[(Refusal, &str)] =
    &[(Refusal::Zero, "cannot be zero: no client could be served; leave it out for the default")];

const NO_BUFFER: &[(Refusal, &str)] = &[
    (Refusal::Zero, "cannot be zero: leave it out for the kernel's"),
    (Refusal::Above(i32::MAX as u64), "can be at most `\"2047MiB\"`, the most that the kernel takes"),
];

const NO_TIMEOUT: &[(Refusal, &str)] = &[(Refusal::Zero, "cannot be zero: leave it out for no timeout")];

const SHUTDOWN: &str = "`timeouts(shutdown = …)` says how long requests have to end";

const OF_HANDLER: &str = "it is a method of the trait `RequestHandler`, which the handler implements";

const ON_DROP: &str = "it is what dropping a `Job` does, in the type that `concurrency = …` names";

impl Grammar {
    /// The keys of this name, each in its group.
    pub(crate) fn find(&self, name: &str) -> impl Iterator<Item = (&'static Group, &'static Key)> {
        self.groups
            .iter()
            .flat_map(|group| group.keys.iter().map(move |key| (group, key)))
            .filter(move |(_, key)| key.name == name)
    }

    pub(crate) fn subgroup(&self, name: &str) -> Option<&'static Group> {
        self.subgroups().find(|group| group.name == name)
    }

    pub(crate) fn subgroups(&self) -> impl Iterator<Item = &'static Group> {
        self.groups.iter().skip(1)
    }
}
