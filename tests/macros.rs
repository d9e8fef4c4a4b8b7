//! What the macros say and write, as a user's compiler sees it.

use sockserver::{Address, HandlerError, HandlerResult, RequestHandler, Server, ServerHandle, Stream, request_handler};

#[test]
fn mistakes_are_told_in_the_users_words() {
    trybuild::TestCases::new().compile_fail("ui/*.rs");
}

#[test]
fn fixtures_and_their_expansions_compile() {
    trybuild::TestCases::new().pass("expand/*.rs");
}

/// Written out, as in `expand/`, the parameters of the expansion would hide the hooks.
#[test]
fn a_hook_can_have_the_name_of_what_it_is_given() {
    #[request_handler]
    #[server(
        transport = "tcp",
        concurrency = "sync",
        hooks(server_activate = handle, verify_request = request, handle_error = client_address),
    )]
    struct Silent;

    impl RequestHandler for Silent {
        fn handle(&mut self) -> HandlerResult {
            Ok(())
        }
    }

    fn handle(_: &SilentServer, _: &ServerHandle) {}

    fn request(_: &SilentServer, _: &Stream, _: &Address) -> bool {
        true
    }

    fn client_address(_: &SilentServer, _: &HandlerError, _: &Address) {}

    drop(SilentServer.bind("127.0.0.1:0").unwrap());
}
