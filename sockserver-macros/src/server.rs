//! `#[derive(Server)]`: the grammar of `#[server(…)]` and the model of a server.

use crate::{
    attr::{self, Grammar, Group, Key, Said, Setting},
    composition,
    errors::Errors,
    expand, handler,
    value::{Choice, Choices, Takes},
};
use proc_macro2::{Ident, Span, TokenStream};
use quote::quote;
use syn::{Attribute, DeriveInput, Generics, Meta};

const NO_CLIENT: &str = "no client could be served; leave the key out for the default";

pub(crate) static GRAMMAR: Grammar = Grammar {
    name: "server",
    groups: &[
        Group {
            name: "",
            keys: &[
                Key::new("transport", Takes::Choice(&composition::TRANSPORT)),
                Key::new("concurrency", Takes::Choice(&composition::CONCURRENCY)),
                Key::new("handler", Takes::Path("Session")),
                Key::new("workers", Takes::Count).optional().not_zero("no thread would serve"),
                Key::new("stack_size", Takes::Size).optional().not_zero("a thread needs a stack"),
                Key::new("allow_threads", Takes::Flag),
                Key::new("crate", Takes::Path("framework::sockserver")),
            ],
        },
        Group {
            name: "socket",
            keys: &[
                Key::new("request_queue_size", Takes::Count),
                Key::new("allow_reuse_address", Takes::Flag),
                Key::new("allow_reuse_port", Takes::Flag),
                Key::new("nodelay", Takes::Flag),
                // `MAX_TCP_KEEPIDLE` of Linux, above which binding would fail.
                Key::new("keepalive", Takes::Duration)
                    .optional()
                    .not_zero("leave the key out for no probes")
                    .most_seconds(32_767),
                Key::new("only_v6", Takes::Flag),
                Key::new("max_packet_size", Takes::Size).not_zero("no packet would fit"),
                Key::new("mode", Takes::Mode).optional(),
                Key::new("unlink", Takes::Flag),
            ],
        },
        Group {
            name: "limits",
            keys: &[
                Key::new("connections", Takes::Count).optional().not_zero(NO_CLIENT),
                Key::new("per_client", Takes::Count).optional().not_zero(NO_CLIENT),
                Key::new("on_limit", Takes::Choice(&ON_LIMIT)),
            ],
        },
        Group {
            name: "timeouts",
            keys: &[
                Key::new("request", Takes::Duration).optional(),
                Key::new("idle", Takes::Duration).optional().not_zero("leave the key out for no timeout"),
                Key::new("lifetime", Takes::Duration).optional().not_zero("leave the key out for no timeout"),
                Key::new("linger", Takes::Duration),
                Key::new("shutdown", Takes::Duration),
                Key::new("poll", Takes::Duration)
                    .optional()
                    .not_zero("the server would never sleep; leave the key out to be called between requests only"),
            ],
        },
        Group {
            name: "hooks",
            keys: &[
                Key::new("server_activate", Takes::Path("Self::on_activate")),
                Key::new("verify_request", Takes::Path("Self::is_welcome")),
                Key::new("handle_error", Takes::Path("Self::on_error")),
                Key::new("handle_timeout", Takes::Path("Self::on_timeout")),
                Key::new("service_actions", Takes::Path("Self::on_turn")),
                Key::new("server_close", Takes::Path("Self::on_close")),
            ],
        },
    ],
    python: &[
        (
            "timeout",
            "`timeouts(request = …)` is that of `handle_request`, `#[request_handler(timeout = …)]` that of each read \
             and write",
        ),
        ("poll_interval", "it is `timeouts(poll = …)`"),
        ("max_children", "it is `limits(connections = …)`"),
        ("disable_nagle_algorithm", "it is `socket(nodelay = …)`"),
        ("daemon_threads", SHUTDOWN),
        ("block_on_close", SHUTDOWN),
        ("address_family", "it follows from the address that `bind` is given"),
        ("server_address", "it is what `bind` is given"),
        ("RequestHandlerClass", "it is `handler = …`"),
        ("setup", OF_HANDLER),
        ("handle", OF_HANDLER),
        ("finish", OF_HANDLER),
        ("server_bind", "it is a method of the address that `bind` is given, of the trait `BindTo`"),
        ("get_request", "it is a method of the type that is given for `transport`"),
        ("process_request", "it is a method of the type that is given for `concurrency`"),
        ("finish_request", "it is `Accepted::process`, which the type that is given for `concurrency` calls"),
        ("shutdown_request", ON_DROP),
        ("close_request", ON_DROP),
    ],
    other: &handler::GRAMMAR,
};

const SHUTDOWN: &str = "`timeouts(shutdown = …)` says how long requests have to end";

const OF_HANDLER: &str = "it is a method of the type that `handler = …` names, of the trait `RequestHandler`";

const ON_DROP: &str = "it is what happens when the type that is given for `concurrency` drops an `Accepted`";

static ON_LIMIT: Choices = Choices {
    home: "OnLimit",
    choices: &[Choice { word: "wait", name: Some("Wait") }, Choice { word: "reject", name: Some("Reject") }],
    own: false,
};

pub(crate) fn expand(input: TokenStream) -> TokenStream {
    let input: DeriveInput = match syn::parse2(input) {
        Ok(input) => input,
        Err(error) => return error.into_compile_error(),
    };
    let mut errors = Errors::default();
    let expanded = expand::server(&Server::new(&input, &mut errors));
    quote!(#expanded #errors)
}

/// What is known of a server. What is not has an error of its own and is stood in for.
pub(crate) struct Server<'a> {
    pub(crate) ident: &'a Ident,
    pub(crate) generics: &'a Generics,
    pub(crate) settings: Vec<Setting>,
}

impl<'a> Server<'a> {
    fn new(input: &'a DeriveInput, errors: &mut Errors) -> Server<'a> {
        let mut attributes = input.attrs.iter().filter(|attribute| attribute.path().is_ident("server"));
        let settings = match attributes.next() {
            Some(attribute) => parse(attribute, errors),
            None => {
                errors.push(syn::Error::new(
                    Span::call_site(),
                    "a server is described by an attribute on the struct, like \
                     `#[server(transport = \"tcp\", concurrency = \"threading\", handler = Session)]`",
                ));
                Vec::new()
            }
        };
        for attribute in attributes {
            errors.at(attribute.path(), "a second `#[server(…)]`: write all of it in one");
        }
        Server { ident: &input.ident, generics: &input.generics, settings }
    }
}

/// The settings of `#[server(…)]`.
pub(crate) fn parse(attribute: &Attribute, errors: &mut Errors) -> Vec<Setting> {
    let tokens = match &attribute.meta {
        Meta::List(list) => list.tokens.clone(),
        Meta::Path(_) => TokenStream::new(),
        Meta::NameValue(_) => {
            errors.at(attribute.path(), "expected `#[server(…)]`");
            return Vec::new();
        }
    };
    let Said { settings, has_unknown } = attr::parse(tokens, &GRAMMAR, errors);
    composition::check(&settings, errors);
    let mut require = |key: &str, message: String| {
        if !has_unknown && settings.iter().all(|setting| setting.key.name != key) {
            errors.at(attribute.path(), format!("`{key}` is missing: {message}"));
        }
    };
    require("transport", format!("expected {}", composition::TRANSPORT.expected()));
    require("concurrency", format!("expected {}", composition::CONCURRENCY.expected()));
    require(
        "handler",
        "name the type that handles a request, like `handler = Session`, or make this struct the handler: \
         write `#[request_handler]` above `#[server(…)]` in place of deriving `Server`"
            .to_string(),
    );
    settings
}
