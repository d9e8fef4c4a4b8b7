use sockserver::*;
struct Session;
#[automatically_derived]
impl<__S: ::sockserver::Server> ::sockserver::FromRequest<__S> for Session {
    fn from_request(_: &mut ::sockserver::Context<'_, __S>) -> ::std::io::Result<Self> {
        ::core::result::Result::Ok(Self {})
    }
}
impl RequestHandler for Session {
    fn handle(&mut self) -> HandlerResult {
        Ok(())
    }
}
#[derive(Clone)]
struct Chat;
#[automatically_derived]
impl ::sockserver::Server for Chat {
    type Transport = ::sockserver::transport::Tcp;
    type Concurrency = ::sockserver::concurrency::Pool;
    type Handler = Session;
    const OPTIONS: ::sockserver::Options = {
        let mut options = ::sockserver::Options::new();
        options.workers = ::core::option::Option::Some(8);
        options.stack_size = ::core::option::Option::Some(262144);
        options.socket.request_queue_size = 128;
        options.socket.nodelay = false;
        options.socket.keepalive = ::core::option::Option::Some(
            ::core::time::Duration::from_secs(32767),
        );
        options.socket.dscp = ::core::option::Option::Some(46);
        options.socket.device = ::core::option::Option::Some("eth0");
        options.limits.connections = ::core::option::Option::Some(1000);
        options.limits.per_client = ::core::option::Option::Some(20);
        options.limits.rate = ::core::option::Option::Some(
            ::sockserver::Rate::per_second(200),
        );
        options.limits.rate_per_client = ::core::option::Option::Some(
            ::sockserver::Rate::per_minute(100),
        );
        options.limits.on_limit = ::sockserver::OnLimit::Reject;
        options.access.allow = ::core::option::Option::Some(const {
            &[
                ::sockserver::Network::new(
                        ::core::net::IpAddr::V4(::core::net::Ipv4Addr::new(10, 0, 0, 0)),
                        8,
                    )
                    .unwrap(),
            ]
        });
        options.access.deny = ::core::option::Option::Some(const {
            &[
                ::sockserver::Network::new(
                        ::core::net::IpAddr::V4(::core::net::Ipv4Addr::new(10, 1, 0, 0)),
                        16,
                    )
                    .unwrap(),
                ::sockserver::Network::new(
                        ::core::net::IpAddr::V6(
                            ::core::net::Ipv6Addr::new(64768, 0, 0, 0, 0, 0, 0, 0),
                        ),
                        8,
                    )
                    .unwrap(),
            ]
        });
        options.timeouts.handle_request = ::core::option::Option::Some(
            ::core::time::Duration::from_secs(0),
        );
        options.timeouts.idle = ::core::option::Option::Some(
            ::core::time::Duration::from_secs(300),
        );
        options.timeouts.lifetime = ::core::option::Option::Some(
            ::core::time::Duration::from_secs(3600),
        );
        options.timeouts.shutdown = ::core::time::Duration::from_millis(1500);
        options.timeouts.poll = ::core::option::Option::Some(
            ::core::time::Duration::from_millis(250),
        );
        options
    };
}
#[derive(Default)]
struct Local;
#[automatically_derived]
impl ::sockserver::BehindProxy for Local {}
#[automatically_derived]
impl ::sockserver::Server for Local {
    type Transport = ::sockserver::transport::Unix;
    type Concurrency = sockserver::concurrency::Synchronous;
    type Handler = Session;
    const OPTIONS: ::sockserver::Options = {
        let mut options = ::sockserver::Options::new();
        options.socket.mode = ::core::option::Option::Some(0o660);
        options.socket.unlink = false;
        options.proxy.trust = ::core::option::Option::Some(const {
            &[
                ::sockserver::TrustedProxy::Network(
                    ::sockserver::Network::new(
                            ::core::net::IpAddr::V4(
                                ::core::net::Ipv4Addr::new(10, 0, 0, 0),
                            ),
                            8,
                        )
                        .unwrap(),
                ),
                ::sockserver::TrustedProxy::Network(
                    ::sockserver::Network::new(
                            ::core::net::IpAddr::V6(
                                ::core::net::Ipv6Addr::new(64768, 0, 0, 0, 0, 0, 0, 0),
                            ),
                            8,
                        )
                        .unwrap(),
                ),
                ::sockserver::TrustedProxy::Unix,
            ]
        });
        options.proxy.versions = ::sockserver::ProxyVersions::Two;
        options
    };
}
const _: () = ::sockserver::__private::refuse(
    ::sockserver::__private::shares_in_vain::<Local>(),
    "`Session` has a mailbox, which is in the memory of one process, and this server has a process for each request: use concurrency = \"threading\"",
);
