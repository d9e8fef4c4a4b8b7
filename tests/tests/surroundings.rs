//! The macros where names do not mean what they usually do, and where literals come out of other macros.

#![deny(warnings, missing_docs, missing_debug_implementations, missing_copy_implementations, unused_qualifications)]
#![deny(unreachable_pub, private_bounds, private_interfaces, unnameable_types)]
#![deny(clippy::all, clippy::pedantic)]
#![allow(clippy::trivially_copy_pass_by_ref)]

use std::time::Duration;

/// A module that has taken every name of the prelude for itself.
pub mod hostile {
    #![allow(dead_code)]

    macro_rules! take {
        ($($name:ident)*) => {
            $(
                #[doc = "Taken."]
                #[allow(non_camel_case_types)]
                #[derive(Clone, Copy, Debug)]
                pub struct $name;
            )*
        };
    }

    take!(Option Some None Result Ok Err String Vec Box Default Clone Copy Debug Send Sync Sized Self_ Duration);
    take!(Server RequestHandler FromRequest Context Options core std bool usize io OnLimit Tcp StandIn);

    /// A transport that is not the one meant.
    #[derive(Debug, Clone, Copy)]
    #[allow(non_camel_case_types)]
    pub struct transport;

    fn is_welcome(_: &Both, _: &::sockserver::Stream, _: &::sockserver::Address) -> ::core::primitive::bool {
        true
    }

    const fn cx() -> u8 {
        1
    }

    /// A server and, by its name, a keyword.
    #[derive(::core::clone::Clone, ::core::marker::Copy, Debug, ::sockserver::Server)]
    #[server(
        transport = "tcp",
        concurrency = "pool",
        handler = r#type,
        workers = 2,
        limits(on_limit = "reject"),
        timeouts(idle = "5m"),
        hooks(verify_request = is_welcome),
    )]
    pub struct Both;

    /// A handler with what a field can have. The name of its server is no fault of the user.
    #[::sockserver::request_handler(timeout = "1s", rbufsize = 1)]
    #[server(transport = "unix", concurrency = "threading", socket(mode = 0o600))]
    #[derive(Debug)]
    #[allow(non_camel_case_types)]
    pub struct r#type {
        r#fn: ::sockserver::Address,
        #[default(cx())]
        cx: u8,
        #[default(::core::option::Option::Some(1))]
        some: ::core::option::Option<u8>,
    }

    impl ::sockserver::RequestHandler for r#type {
        fn handle(&mut self) -> ::sockserver::HandlerResult {
            ::core::result::Result::Ok(())
        }
    }
}

#[test]
fn a_hostile_module_gets_what_it_wrote() {
    let options = <hostile::Both as sockserver::Server>::OPTIONS;
    assert_eq!(options.workers, Some(2));
    assert_eq!(options.limits.on_limit, sockserver::OnLimit::Reject);
    assert_eq!(options.timeouts.idle, Some(Duration::from_mins(5)));
    assert_eq!(<hostile::typeServer as sockserver::Server>::OPTIONS.socket.mode, Some(0o600));
}

/// A crate that hands sockserver on.
pub mod framework {
    pub use sockserver;

    /// A server whose attribute is put together from what the macro was given.
    // rustfmt moves the attributes further to the right each time.
    #[rustfmt::skip]
    #[macro_export]
    macro_rules! serve {
        (
            $name:ident, $transport:literal, $concurrency:expr, $own:path, $handler:ty, $count:expr, $idle:expr,
            $hook:path
        ) => {
            #[derive($crate::framework::sockserver::Server)]
            #[server(
                crate = $crate::framework::sockserver,
                transport = $transport,
                concurrency = $concurrency,
                handler = $handler,
                limits(connections = $count),
                timeouts(idle = $idle),
                hooks(server_close = $hook),
            )]
            struct $name;

            #[$crate::framework::sockserver::request_handler(crate = $crate::framework::sockserver, timeout = $idle)]
            struct Inner(#[default($count)] usize);

            impl $crate::framework::sockserver::RequestHandler for Inner {
                fn handle(&mut self) -> $crate::framework::sockserver::HandlerResult {
                    self.0 += 1;
                    Ok(())
                }
            }

            #[derive($crate::framework::sockserver::Server)]
            #[server(
                crate = $crate::framework::sockserver,
                transport = $own,
                concurrency = "sync",
                handler = $handler,
                socket(mode = 0o600),
            )]
            struct Own;
        };
    }
}

#[test]
fn values_come_out_of_a_macro_that_was_given_them() {
    serve!(Given, "tcp", "pool", sockserver::transport::Unix, Inner, 7, "5m", close);

    fn close(_: &Given) {}

    let options = <Given as sockserver::Server>::OPTIONS;
    assert_eq!(options.limits.connections, Some(7));
    assert_eq!(options.timeouts.idle, Some(Duration::from_mins(5)));
    assert_eq!(<Own as sockserver::Server>::OPTIONS.socket.mode, Some(0o600));
    let _ = (Given, Own);
}
